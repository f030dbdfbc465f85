//! Which keys there are, found out from the configuration's own types.
//!
//! A key list kept by hand would go stale; so the types are asked. A deserializer that holds no data walks the path to
//! one key after the other, and notes what the type there asks for. Nothing is ever deserialised: each walk ends in an
//! error, on purpose.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Config;

/// What a type holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Schema {
    /// Named keys.
    Table(Vec<(&'static str, Schema)>),
    /// Any number of the same.
    List(Box<Schema>),
    /// Keys of the user's choice.
    Map,
    /// Text, or one of a closed list of words.
    Text,
    /// A number, a truth value, or anything that the type reads in its own way.
    Other,
}

/// A key that holds a value.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) path: Vec<&'static str>,
    pub(super) schema: Schema,
}

impl Schema {
    /// Every key that holds a value, in order of declaration. A map or a list is one value.
    pub(super) fn leaves(&self) -> Vec<Leaf> {
        fn collect(schema: &Schema, path: &mut Vec<&'static str>, out: &mut Vec<Leaf>) {
            if let Schema::Table(keys) = schema {
                for (key, inner) in keys {
                    path.push(key);
                    collect(inner, path, out);
                    path.pop();
                }
            } else {
                out.push(Leaf { path: path.clone(), schema: schema.clone() });
            }
        }
        let mut out = Vec::new();
        collect(self, &mut Vec::new(), &mut out);
        out
    }
}

/// The variable that overrides a key.
pub(super) fn environment_name(path: &[&str]) -> String {
    format!("FACESTREAM_{}", path.join("_").to_ascii_uppercase())
}

/// The keys of [`Config`].
pub(super) fn of_config() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| explore::<Config>(&mut Vec::new()));
    &SCHEMA
}

/// Walks to every place below `path` (indices of fields; any number for an element of a list).
fn explore<T: DeserializeOwned>(path: &mut Vec<usize>) -> Schema {
    let mut found = Found::Other;
    // What matters is noted on the way.
    let end = T::deserialize(Probe { path, found: &mut found });
    debug_assert!(end.is_err(), "there is no data to make anything of");
    match found {
        Found::Struct(fields) => Schema::Table(
            fields
                .iter()
                .enumerate()
                .map(|(i, &name)| {
                    path.push(i);
                    let inner = explore::<T>(path);
                    path.pop();
                    (name, inner)
                })
                .collect(),
        ),
        Found::List => {
            path.push(0);
            let inner = explore::<T>(path);
            path.pop();
            Schema::List(Box::new(inner))
        }
        Found::Map => Schema::Map,
        Found::Text => Schema::Text,
        Found::Other => Schema::Other,
    }
}

enum Found {
    Struct(&'static [&'static str]),
    List,
    Map,
    Text,
    Other,
}

/// Follows the path, then notes what it is asked for.
struct Probe<'a> {
    path: &'a [usize],
    found: &'a mut Found,
}

/// The end of a walk.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("end of the walk")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! note {
    ($found:ident: $($method:ident($($argument:ty),*)),+ $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Stop> {
            *self.found = Found::$found;
            Err(Stop)
        })+
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            None => {
                *self.found = Found::Struct(fields);
                Err(Stop)
            }
            Some((&index, rest)) => visitor.visit_map(OneField {
                name: fields.get(index).copied(),
                probe: Some(Probe { path: rest, found: self.found }),
            }),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            None => {
                *self.found = Found::List;
                Err(Stop)
            }
            Some((_, rest)) => visitor.visit_seq(OneElement(Some(Probe { path: rest, found: self.found }))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    note!(Text: deserialize_str(), deserialize_string(), deserialize_char(),
        deserialize_enum(&'static str, &'static [&'static str]));
    note!(Map: deserialize_map());
    note!(Other: deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(), deserialize_i64(),
        deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(), deserialize_f32(), deserialize_f64(),
        deserialize_bytes(), deserialize_byte_buf(), deserialize_unit(), deserialize_unit_struct(&'static str),
        deserialize_tuple(usize), deserialize_tuple_struct(&'static str, usize),
        deserialize_identifier(), deserialize_ignored_any());
}

/// A table of one key.
struct OneField<'a> {
    name: Option<&'static str>,
    probe: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for OneField<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.name.take().map(|name| seed.deserialize(de::value::StrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.probe.take().ok_or(Stop)?)
    }
}

/// A list of one element.
struct OneElement<'a>(Option<Probe<'a>>);

impl<'de> SeqAccess<'de> for OneElement<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Outer {
        number: Option<u32>,
        path: PathBuf,
        word: Word,
        address: std::net::SocketAddr,
        inner: Option<Inner>,
        list: Vec<Inner>,
        map: BTreeMap<String, u8>,
        any: serde_json::Value,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Inner {
        a: f32,
        b: Vec<String>,
    }

    #[test]
    fn the_types_tell_their_keys() {
        let inner = || Schema::Table(vec![("a", Schema::Other), ("b", Schema::List(Box::new(Schema::Text)))]);
        let expected = Schema::Table(vec![
            ("number", Schema::Other),
            ("path", Schema::Text),
            ("word", Schema::Text),
            ("address", Schema::Text),
            ("inner", inner()),
            ("list", Schema::List(Box::new(inner()))),
            ("map", Schema::Map),
            ("any", Schema::Other),
        ]);
        assert_eq!(explore::<Outer>(&mut Vec::new()), expected);
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut names = Config::environment_names();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.contains(&"FACESTREAM_INGEST_WATCHDOG_MS".to_owned()), "{names:?}");
        assert!(names.contains(&"FACESTREAM_SINKS_KAFKA_BROKERS".to_owned()), "{names:?}");
    }
}
