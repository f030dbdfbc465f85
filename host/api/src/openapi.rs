//! The OpenAPI 3.1 document: what holds for the API as a whole. Each route describes itself beside its handler.
//!
//! Must be deterministic: the same code gives the same bytes (kept as a golden file).

use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::auth::Role;
use crate::problem::{PROBLEM_JSON, ProblemBody};
use crate::router;

const DESCRIPTION: &str = "Finds faces on many cameras, follows them, keeps the best picture of each and sends it on. \
Every failed request is answered with a problem document (RFC 9457). Where tokens are configured, send \
`Authorization: Bearer <token>`; roles are viewer, operator and guest-admin, each including those before it.";

/// The document before any route is in it.
pub(crate) fn document() -> OpenApi {
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("FaceStream")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds to each operation what role it needs and that it may answer with a problem.
pub(crate) fn describe_access(document: &mut OpenApi, role: Option<Role>) {
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.head, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            describe_operation(operation, role);
        }
    }
}

fn describe_operation(operation: &mut Operation, role: Option<Role>) {
    let needs = match role {
        Some(role) => {
            operation.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
            format!("Needs the role {}.", role.as_str())
        }
        None => "Needs no token.".to_owned(),
    };
    let text = operation.description.take().unwrap_or_default();
    operation.description = Some(if text.is_empty() { needs } else { format!("{text}\n\n{needs}") });
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new().description("What went wrong.").content(PROBLEM_JSON, problem).build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem));
}

/// Adds what all operations refer to.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token from `[[server.tokens]]`. Not asked for where none is configured."))
        .build();
    components.security_schemes.insert("bearer".to_owned(), RefOr::T(SecurityScheme::Http(bearer)));
    let mut schemas = Vec::new();
    ProblemBody::schemas(&mut schemas);
    schemas.push(("Problem".to_owned(), ProblemBody::schema()));
    components.schemas.extend(schemas);
    document
}

/// The finished document as bytes.
pub(crate) fn finish(document: OpenApi) -> Bytes {
    Bytes::from(to_json(&complete(document)))
}

fn to_json(document: &OpenApi) -> String {
    let mut text = serde_json::to_string_pretty(document)
        .expect("a document of strings, numbers and maps with string keys serialises");
    text.push('\n');
    text
}

/// The OpenAPI 3.1 document, as `/openapi.json` serves it.
#[must_use]
pub fn openapi_json() -> String {
    to_json(&router::whole_document())
}
