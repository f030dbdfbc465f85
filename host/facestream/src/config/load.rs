//! From a file and the environment to a checked configuration.
//!
//! Each value is tried by itself, so that one that is wrong does not hide the next; then all together, then the checks
//! of each section. Must not print: whoever loads shows the problems.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Config;
use super::errors::{ConfigErrors, ConfigProblem, Source};
use super::schema::{Leaf, Schema, environment_name, of_config};
use super::tree::{Entry, Lines, Tree, near, read, table};

/// A configuration above this is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The one variable that is no key and looks like one.
const NO_KEY: &str = "FACESTREAM_OPENVINO_LIBRARY";

/// `names` are the variables there are, of which `env` tells the values.
pub(super) fn load(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    names: &[String],
) -> Result<Config, ConfigErrors> {
    let fail = |problems: Vec<ConfigProblem>| ConfigErrors { file: path.map(Path::to_path_buf), problems };
    let text = match path {
        Some(path) => read_file(path).map_err(|message| fail(vec![problem(Source::Nowhere, "", message)]))?,
        None => String::new(),
    };
    let lines = Lines(&text);
    // Texts of the environment live as long as the values that borrow from them.
    let leaves = of_config().leaves();
    let overrides: Vec<(&Leaf, String, String)> = leaves
        .iter()
        .filter_map(|leaf| {
            let name = environment_name(&leaf.path);
            env(&name).map(|value| (leaf, name, value))
        })
        .collect();

    let (document, syntax) = DeTable::parse_recoverable(&text);
    let mut problems: Vec<ConfigProblem> = syntax
        .iter()
        .map(|error| {
            let source = error.span().map_or(Source::Nowhere, |span| Source::Line(lines.of(span.start)));
            problem(source, "", error.message().to_owned())
        })
        .collect();
    if !problems.is_empty() {
        // What could be read of a broken file would only give problems that are none.
        problems.dedup();
        return Err(fail(problems));
    }

    let mut tree = read(document.into_inner(), &lines, &mut problems);
    for (leaf, name, text) in &overrides {
        let key: Vec<String> = leaf.path.iter().map(|&part| part.to_owned()).collect();
        match environment_value(&leaf.schema, text) {
            Ok(value) => {
                tree.insert(key, Entry { source: Source::Environment(name.clone()), value });
            }
            Err(message) => problems.push(problem(Source::Environment(name.clone()), &key.join("."), message)),
        }
    }

    try_each(&mut tree, &lines, &mut problems);
    let config = match deserialize(&tree, tree.keys()) {
        Ok(config) => config,
        Err(error) => {
            // Each value is right by itself, so something that belongs together is not.
            let source =
                error.span().filter(|s| s.end > 0).map_or(Source::Nowhere, |s| Source::Line(lines.of(s.start)));
            problems.push(problem(source, "", without_values(error.message())));
            return Err(fail(sorted(problems)));
        }
    };
    problems.extend(unknown_variables(names, env, &leaves, &config));
    let known: BTreeSet<String> = problems.iter().map(|p| p.key.clone()).collect();
    for (section, message) in config.problems() {
        let found = placed(section, &message, &tree);
        // A value that could not be read was left out; that its default does not fit the others is no second problem.
        if !known.iter().any(|key| !key.is_empty() && message.contains(last_part(key)) && key.starts_with(section)) {
            problems.push(found);
        }
    }
    if problems.is_empty() { Ok(config) } else { Err(fail(sorted(problems))) }
}

fn problem(source: Source, key: &str, message: impl Into<String>) -> ConfigProblem {
    ConfigProblem { source, key: key.to_owned(), message: message.into() }
}

/// File first, in its order; then the environment and the rest.
fn sorted(mut problems: Vec<ConfigProblem>) -> Vec<ConfigProblem> {
    problems.sort_by_key(|p| match p.source {
        Source::Line(line) => line,
        Source::Environment(_) | Source::Option(_) => usize::MAX - 1,
        Source::Nowhere => usize::MAX,
    });
    problems
}

fn read_file(path: &Path) -> Result<String, String> {
    let explain = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; examples/facestream.toml is one to start from".to_owned()
        }
        std::io::ErrorKind::InvalidData => "is no UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = std::fs::File::open(path).map_err(explain)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(explain)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        Err("is larger than 4 MiB; that is no configuration".to_owned())
    } else {
        Ok(text)
    }
}

/// A variable's text as a value: text as it is, lists of texts separated by commas or as TOML, everything else as TOML.
fn environment_value<'t>(schema: &Schema, text: &'t str) -> Result<Spanned<DeValue<'t>>, String> {
    let string = |text: &'t str| Spanned::new(0..0, DeValue::String(text.into()));
    match schema {
        Schema::Text => return Ok(string(text)),
        Schema::List(inner) if **inner == Schema::Text && !text.trim_start().starts_with('[') => {
            let mut list = toml::de::DeArray::new();
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                list.push(string(part));
            }
            return Ok(Spanned::new(0..0, DeValue::Array(list)));
        }
        _ => {}
    }
    DeValue::parse(text.trim()).map_err(|error| format!("cannot be read as a TOML value: {}", error.message()))
}

/// Variables that name no key and were probably meant to: near to one, one without its section, or named like a section.
/// Others are left alone: they belong to somebody else.
fn unknown_variables(
    names: &[String],
    env: &dyn Fn(&str) -> Option<String>,
    leaves: &[Leaf],
    config: &Config,
) -> Vec<ConfigProblem> {
    let keys: Vec<String> = leaves.iter().map(|leaf| environment_name(&leaf.path)).collect();
    let prefix = environment_name(&[""]);
    let bare: Vec<&str> = keys.iter().filter_map(|key| key.strip_prefix(&prefix)).collect();
    let is_section = |name: &str| {
        leaves.iter().filter_map(|leaf| leaf.path.first()).any(|section| {
            name.strip_prefix(section.to_ascii_uppercase().as_str()).is_some_and(|rest| rest.starts_with('_'))
        })
    };
    let mut problems = Vec::new();
    for name in names.iter().filter(|name| !keys.contains(name) && *name != NO_KEY) {
        let named = config.registries.allow.iter().any(|registry| registry.password_env.as_ref() == Some(name));
        let Some(rest) = name.strip_prefix(&prefix).filter(|_| !named) else { continue };
        if is_of_kubernetes(rest, &env(name).unwrap_or_default()) {
            continue;
        }
        let without_section = |key: &&str| key.strip_suffix(rest).is_some_and(|section| section.ends_with('_'));
        // One word alone (`CONFIG`, `HOST`) ends too many keys to stand for one.
        let short = || bare.iter().copied().find(|key| rest.contains('_') && without_section(key));
        let message = match near(rest, bare.iter().copied()).or_else(short) {
            Some(meant) => format!("no such key; did you mean {prefix}{meant}?"),
            None if is_section(rest) => "no such key; examples/facestream.toml has them all".to_owned(),
            None => continue,
        };
        problems.push(problem(Source::Environment(name.clone()), "", message));
    }
    problems
}

/// Kubernetes makes such variables in each pod for a service that is called `facestream` or `facestream-…`.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let port = rest.contains("PORT_") && (rest.contains("_TCP") || rest.contains("_UDP"));
    let address = rest.ends_with("PORT") && value.contains("://");
    port || address || rest.contains("SERVICE_HOST") || rest.contains("SERVICE_PORT")
}

fn deserialize<'k>(tree: &Tree<'_>, keys: impl Iterator<Item = &'k Vec<String>>) -> Result<Config, toml::de::Error> {
    let entries = keys.filter_map(|key| tree.get(key).map(|entry| (key.clone(), entry.value.clone())));
    Config::deserialize(Deserializer::from(Spanned::new(0..0, table(entries))))
}

/// Tries each value with nothing beside it; one that is wrong becomes a problem and is taken out.
fn try_each(tree: &mut Tree<'_>, lines: &Lines<'_>, problems: &mut Vec<ConfigProblem>) {
    let keys: Vec<Vec<String>> = tree.keys().cloned().collect();
    for key in keys {
        let Err(error) = deserialize(tree, std::iter::once(&key)) else { continue };
        let Some(entry) = tree.remove(&key) else { continue };
        let source = match (entry.source, error.span()) {
            // Within a list that spans lines, the element.
            (Source::Line(_), Some(span)) if span.end > 0 => Source::Line(lines.of(span.start)),
            (source, _) => source,
        };
        problems.push(problem(source, &key.join("."), without_values(error.message())));
    }
}

/// serde repeats a value of the wrong type, and that may be a password in the wrong place.
fn without_values(message: &str) -> String {
    for start in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(start)
            && let Some((value, expected)) = rest.rsplit_once(", expected ")
        {
            let kind = value.split(['"', '`']).next().unwrap_or_default().trim();
            return format!("is {}, expected {expected}", if kind.is_empty() { "something else" } else { kind });
        }
    }
    message.to_owned()
}

/// Finds the line that a section's complaint is about: the key it names that is in the file or the environment.
fn placed(section: &str, message: &str, tree: &Tree<'_>) -> ConfigProblem {
    let words: Vec<&str> = message.split(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c))).collect();
    let named = |key: &Vec<String>| {
        words.iter().position(|word| {
            let word = word.trim_end_matches('.');
            key.last().is_some_and(|last| word == last)
                || key.join(".").ends_with(&format!(".{word}"))
                || key.join(".") == word
        })
    };
    let entry = tree
        .iter()
        .filter(|(key, _)| key.first().is_some_and(|first| first == section))
        .filter_map(|(key, entry)| named(key).map(|at| (at, entry)))
        .min_by_key(|(at, _)| *at)
        .map(|(_, entry)| entry.source.clone());
    let source = entry.or_else(|| beside(section, &words, tree)).unwrap_or(Source::Nowhere);
    // Sections name their keys with or without their own name before; here it always stands, once.
    let bare =
        [section, section.trim_end_matches('s')].iter().find_map(|own| message.strip_prefix(*own)?.strip_prefix('.'));
    let message = bare.unwrap_or(message);
    let first = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
    let is_key = matches!(of_config(), Schema::Table(sections) if sections.iter().any(|(name, keys)| {
        *name == section && matches!(keys, Schema::Table(keys) if keys.iter().any(|(key, _)| *key == first))
    }));
    if is_key { problem(source, "", format!("{section}.{message}")) } else { problem(source, section, message) }
}

/// A key that is missing has no line: the first of those that stand in the same section then.
fn beside(section: &str, words: &[&str], tree: &Tree<'_>) -> Option<Source> {
    let parents = words.iter().filter_map(|word| word.trim_end_matches('.').rsplit_once('.')).map(|(parent, _)| parent);
    let own = parents.filter(|parent| parent.split('.').next() == Some(section));
    let lines = own.flat_map(|parent| {
        let within =
            move |key: &str| key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        tree.iter().filter(move |(key, _)| within(&key.join("."))).filter_map(|(_, entry)| match entry.source {
            Source::Line(line) => Some(line),
            _ => None,
        })
    });
    lines.min().map(Source::Line)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
