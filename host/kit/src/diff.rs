//! Where two answers differ, in words: the path into the JSON and both values.

use serde_json::Value;

/// The first difference between two lines of JSON; `None` when they are equal.
pub(crate) fn difference(was: &str, is: &str) -> Option<String> {
    if was == is {
        return None;
    }
    match (serde_json::from_str(was), serde_json::from_str(is)) {
        (Ok(a), Ok(b)) => values(&mut String::new(), &a, &b),
        _ => Some(format!("`{was}` became `{is}`")),
    }
}

fn values(path: &mut String, a: &Value, b: &Value) -> Option<String> {
    let length = path.len();
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for (key, value) in x {
                path.push_str(if length == 0 { "" } else { "." });
                path.push_str(key);
                let found = match y.get(key) {
                    Some(other) => values(path, value, other),
                    None => Some(format!("{path}: {value} is gone")),
                };
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            y.iter().find(|(key, _)| !x.contains_key(*key)).map(|(key, value)| format!("{path}.{key}: {value} is new"))
        }
        (Value::Array(x), Value::Array(y)) => {
            for (n, (value, other)) in x.iter().zip(y).enumerate() {
                path.push_str(&format!("[{n}]"));
                let found = values(path, value, other);
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            let (had, has) = (x.len(), y.len());
            (had != has).then(|| format!("{path}: {had} entries became {has}"))
        }
        _ => (a != b).then(|| format!("{path}: {a} became {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let same = r#"{"tracks":[{"id":1,"box":[1.0,2.0]}],"ended":[]}"#;
        assert_eq!(difference(same, same), None);
        let moved = r#"{"tracks":[{"id":1,"box":[1.0,2.5]}],"ended":[]}"#;
        assert_eq!(difference(same, moved).unwrap(), "tracks[0].box[1]: 2.0 became 2.5");
        let fewer = r#"{"tracks":[],"ended":[]}"#;
        assert_eq!(difference(same, fewer).unwrap(), "tracks: 1 entries became 0");
        let other = r#"{"tracks":[{"id":1,"box":[1.0,2.0]}],"ended":[],"more":1}"#;
        assert_eq!(difference(same, other).unwrap(), ".more: 1 is new");
        assert_eq!(difference("a", "b").unwrap(), "`a` became `b`");
    }
}
