//! The OpenAPI document: the one in the repository, complete, and true.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::access::ROUTES;
use crate::client::Api;

/// Not part of the API but pages for people.
const PAGES: [&str; 3] = ["/", "/openapi.json", "/docs/"];

fn document() -> Value {
    serde_json::from_str(&facestream_api::openapi_json()).unwrap()
}

#[test]
fn the_document_in_the_repository_is_the_one_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = facestream_api::openapi_json();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "openapi.json is not what the code makes; if the change is meant, run the test with UPDATE_GOLDEN=1"
    );
}

#[tokio::test]
async fn the_document_is_served_as_it_is() {
    let api = Api::new();
    let got = api.get("/openapi.json").await;
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.text(), facestream_api::openapi_json());
    assert_eq!(facestream_api::openapi_json(), facestream_api::openapi_json());
    let docs = api.get("/docs/").await;
    assert_eq!(docs.status, 200);
    assert!(docs.text().contains("swagger-ui"), "{}", docs.text());
    assert!(api.get("/docs/swagger-initializer.js").await.text().contains("/openapi.json"));
}

#[test]
fn every_route_is_in_the_document_with_its_role() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let mut known: BTreeSet<(String, String)> = ROUTES
        .iter()
        .filter(|(_, path, _)| !PAGES.contains(path))
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    known.insert(("GET".to_owned(), "/api/v1/events".to_owned()));
    assert_eq!(documented, known);

    for (method, path, role) in ROUTES.iter().filter(|(_, path, _)| !PAGES.contains(path)) {
        let operation = &document["paths"][path][method.to_lowercase()];
        let needs = role.map_or("Needs no token.".to_owned(), |r| format!("Needs the role {}.", r.as_str()));
        assert!(operation["description"].as_str().unwrap().ends_with(&needs), "{method} {path}");
        assert_eq!(operation.get("security").is_some(), role.is_some(), "{method} {path}");
        assert_eq!(
            operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"],
            "#/components/schemas/Problem"
        );
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
    }
}

#[test]
fn operation_ids_are_unique_and_references_lead_somewhere() {
    let document = document();
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
        }
    }
    fn follow(value: &Value, document: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                map.values().for_each(|v| follow(v, document));
            }
            Value::Array(list) => list.iter().for_each(|v| follow(v, document)),
            _ => {}
        }
    }
    follow(&document, &document);
}

#[tokio::test]
async fn answers_have_the_fields_that_the_document_promises() {
    let api = Api::new();
    api.start("a").await;
    let document = document();
    for (path, asked) in [
        ("/camera/status", "/camera/status"),
        ("/api/v1/cameras", "/api/v1/cameras"),
        ("/api/v1/cameras/{id}", "/api/v1/cameras/a"),
        ("/api/v1/cameras/{id}/guests", "/api/v1/cameras/a/guests"),
        ("/api/v1/cameras/{id}/guests/{slot}", "/api/v1/cameras/a/guests/tracker"),
        ("/api/v1/guests", "/api/v1/guests"),
        ("/api/v1/guests/{reference}", "/api/v1/guests/botsort"),
        ("/api/v1/models", "/api/v1/models"),
        ("/api/v1/sinks", "/api/v1/sinks"),
        ("/healthz", "/healthz"),
    ] {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        conforms(&api.get(asked).await.json(), schema, &document, path);
    }
}

/// Required fields are there, and no field is there that the schema does not know.
fn conforms(value: &Value, schema: &Value, document: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(value, document.pointer(&reference[1..]).unwrap(), document, at);
    }
    if let Some(options) = schema["oneOf"].as_array() {
        if !value.is_null() {
            let schema = options.iter().find(|o| o["type"] != "null").unwrap();
            conforms(value, schema, document, at);
        }
        return;
    }
    match value {
        Value::Object(map) => {
            let Some(properties) = schema["properties"].as_object() else { return };
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(map.contains_key(required.as_str().unwrap()), "{at}: {required} is missing");
            }
            for (key, inner) in map {
                let property = properties.get(key).unwrap_or_else(|| panic!("{at}: `{key}` is not in the document"));
                conforms(inner, property, document, &format!("{at}.{key}"));
            }
        }
        Value::Array(list) => {
            assert!(!list.is_empty() || at.ends_with("used_by") || at.ends_with("imports"), "{at}: nothing to look at");
            list.iter().for_each(|v| conforms(v, &schema["items"], document, at));
        }
        _ => {}
    }
}
