//! Values of a configuration by their full key, each with the place it came from.
//!
//! Owns reading TOML into such a list while unknown keys are sorted out, and turning a part of it back into a table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigProblem, Source};
use super::schema::{Schema, of_config};

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Entry<'i> {
    pub(super) source: Source,
    pub(super) value: Spanned<DeValue<'i>>,
}

/// Values by full key. An empty section is an entry of its own: that it is there may mean something.
pub(super) type Tree<'i> = BTreeMap<Vec<String>, Entry<'i>>;

/// Lines of a text, to find the one that a byte is on.
pub(super) struct Lines<'a>(pub(super) &'a str);

impl Lines<'_> {
    pub(super) fn of(&self, offset: usize) -> usize {
        1 + self.0.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count()
    }
}

/// Takes a table apart by the schema; unknown keys become problems and are left out.
pub(super) fn read<'i>(table: DeTable<'i>, lines: &Lines<'_>, problems: &mut Vec<ConfigProblem>) -> Tree<'i> {
    let mut tree = Tree::new();
    if let Schema::Table(keys) = of_config() {
        read_table(table, keys, &mut Vec::new(), lines, &mut tree, problems);
    }
    tree
}

fn read_table<'i>(
    table: DeTable<'i>,
    keys: &[(&'static str, Schema)],
    path: &mut Vec<String>,
    lines: &Lines<'_>,
    tree: &mut Tree<'i>,
    problems: &mut Vec<ConfigProblem>,
) {
    for (key, mut value) in table {
        let source = Source::Line(lines.of(key.span().start));
        path.push(key.get_ref().to_string());
        match keys.iter().find(|(name, _)| *name == key.get_ref().as_ref()) {
            None => problems.push(unknown(path, source, keys)),
            Some((_, Schema::Table(inner))) => {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) if table.is_empty() => {
                        tree.insert(
                            path.clone(),
                            Entry { source, value: Spanned::new(span, DeValue::Table(DeTable::new())) },
                        );
                    }
                    DeValue::Table(table) => read_table(table, inner, path, lines, tree, problems),
                    other => problems.push(ConfigProblem {
                        source,
                        key: path.join("."),
                        message: format!("is a section, not a {}; write [{}]", other.type_str(), path.join(".")),
                    }),
                }
            }
            Some((_, schema)) => {
                if let (Schema::List(element), DeValue::Array(elements)) = (schema, value.get_mut())
                    && let Schema::Table(inner) = element.as_ref()
                {
                    for element in elements.iter_mut() {
                        if let DeValue::Table(table) = element.get_mut() {
                            strict(table, inner, path, lines, problems);
                        }
                    }
                }
                tree.insert(path.clone(), Entry { source, value });
            }
        }
        path.pop();
    }
}

/// Sorts unknown keys out of an element of a list.
fn strict(
    table: &mut DeTable<'_>,
    keys: &[(&'static str, Schema)],
    path: &[String],
    lines: &Lines<'_>,
    problems: &mut Vec<ConfigProblem>,
) {
    for (key, value) in std::mem::take(table) {
        if keys.iter().any(|(name, _)| *name == key.get_ref().as_ref()) {
            table.insert(key, value);
        } else {
            let mut path = path.to_vec();
            path.push(key.get_ref().to_string());
            problems.push(unknown(&path, Source::Line(lines.of(key.span().start)), keys));
        }
    }
}

/// A table that holds these values and nothing else.
pub(super) fn table<'i>(entries: impl IntoIterator<Item = (Vec<String>, Spanned<DeValue<'i>>)>) -> DeTable<'i> {
    let mut root = DeTable::new();
    for (path, value) in entries {
        let mut at = &mut root;
        let Some((last, sections)) = path.split_last() else { continue };
        for section in sections {
            let slot = at
                .entry(Spanned::new(0..0, Cow::Owned(section.clone())))
                .or_insert_with(|| Spanned::new(0..0, DeValue::Table(DeTable::new())));
            if !slot.get_ref().is_table() {
                *slot.get_mut() = DeValue::Table(DeTable::new());
            }
            match slot.get_mut() {
                DeValue::Table(inner) => at = inner,
                _ => unreachable!("made a table just now"),
            }
        }
        // A key of a section that is listed as empty, too, must not be wiped out by it.
        let empty_section = matches!(value.get_ref(), DeValue::Table(t) if t.is_empty());
        if !(empty_section && at.contains_key(last.as_str())) {
            at.insert(Spanned::new(0..0, Cow::Owned(last.clone())), value);
        }
    }
    root
}

fn unknown(path: &[String], source: Source, siblings: &[(&'static str, Schema)]) -> ConfigProblem {
    let key = path.join(".");
    let name = path.last().map_or("", String::as_str);
    let message = match near(name, siblings.iter().map(|(sibling, _)| *sibling)) {
        Some(sibling) => format!("unknown key; did you mean `{sibling}`?"),
        None => {
            let elsewhere: Vec<String> = of_config()
                .leaves()
                .iter()
                .filter(|leaf| leaf.path.last() == Some(&name))
                .map(|leaf| format!("`{}`", leaf.path.join(".")))
                .collect();
            let known: Vec<&str> = siblings.iter().map(|(sibling, _)| *sibling).collect();
            match elsewhere.as_slice() {
                [] => format!("unknown key; known here: {}", known.join(", ")),
                places => format!("unknown key here; there is {}", places.join(" and ")),
            }
        }
    };
    ConfigProblem { source, key, message }
}

/// The name that was probably meant.
pub(crate) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|candidate| {
            (strsim::damerau_levenshtein(name, candidate), strsim::jaro_winkler(name, candidate), candidate)
        })
        // Two slips in a short name already make another word; long names share beginnings (`max_…`) without being near.
        .filter(|(edits, likeness, candidate)| *edits <= 1 + candidate.len() / 6 || *likeness > 0.93)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, candidate)| candidate)
}
