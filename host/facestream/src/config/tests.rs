//! The configuration as its users meet it: files with mistakes, the environment, the shipped example.

use std::collections::BTreeMap;

use super::schema::of_config;
use super::{Config, ConfigErrors, LogFormat};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/facestream.toml"));

/// Keys of the example that have no default: what stands there is an example.
const WITHOUT_DEFAULT: [&str; 13] = [
    "server.tokens",
    "infer.runtime_library",
    "infer.nms_iou",
    "infer.class_filter",
    "infer.openvino_library",
    "infer.engine_cache",
    "guests.cache_dir",
    "guests.signatures.keys",
    "registries.allow",
    "sinks.kafka.brokers",
    "sinks.kafka.topics",
    "sinks.kafka.properties",
    "defaults.detect_fps",
];

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("facestream.toml");
    std::fs::write(&path, text).unwrap();
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    Config::load(Some(&path), &|name| env.get(name).map(|&value| value.to_owned()))
}

/// `line: text` for each problem, in order.
fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let errors = load(text, env).unwrap_err();
    let file = errors.file.clone().unwrap().display().to_string();
    errors.to_string().lines().skip(1).map(|l| l.trim().replace(&format!("{file}:"), "")).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = problems(text, &[]);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "`{expected}` not in `{found}`");
    }
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let nothing = Config::load(None, &|_| None).unwrap();
    assert_eq!(nothing, Config::default());
    assert_eq!(load("", &[]).unwrap(), Config::default());
}

#[test]
fn every_problem_is_told_at_once_with_its_line() {
    check(
        "[server]\nlisten = \"0.0.0.0:8080\"\n\n[ingest]\nwatchdgo_ms = 5\nbackoff_min_ms = \"1s\"\nconnects_per_second = 0\n\n\
         [infre]\nthreads = 1\n\n[decode]\nthreads = 100\n\n[log]\nlevel = \"=,=\"\nformat = \"xml\"\n",
        &[
            "2: server.listen = \"0.0.0.0:8080\" is reached from other machines",
            "5: ingest.watchdgo_ms: unknown key; did you mean `watchdog_ms`?",
            "6: ingest.backoff_min_ms: is string, expected u64",
            "7: ingest.connects_per_second = 0: must be 1 to 10000",
            "9: infre: unknown key; did you mean `infer`?",
            "13: decode.threads is 100",
            "16: log.level = \"=,=\" cannot be read",
            "17: log.format: unknown variant `xml`, expected `text` or `json`",
        ],
    );
}

#[test]
fn an_unknown_key_is_looked_for_elsewhere() {
    check(
        "[decode]\nwatchdog_ms = 5000\n",
        &["2: decode.watchdog_ms: unknown key here; there is `ingest.watchdog_ms`"],
    );
    check("[log]\ncolour = true\n", &["2: log.colour: unknown key; known here: format, level"]);
    check("listen = \"127.0.0.1:1\"\n", &["1: listen: unknown key here; there is `server.listen`"]);
    check("[guests.limits]\ndeadline = 5\n", &["2: guests.limits.deadline: unknown key; did you mean `deadline_ms`?"]);
}

#[test]
fn what_is_no_toml_is_told_by_line() {
    let found = problems("[server]\nlisten = \n\n[log\nlevel = \"info\"\n", &[]);
    assert!(found.iter().any(|p| p.starts_with("2: ")), "{found:?}");
    assert!(found.iter().any(|p| p.starts_with("4: ")), "{found:?}");
    check("[log]\nlevel = \"a\"\nlevel = \"b\"\n", &["3: duplicate key"]);
}

#[test]
fn sections_and_values_are_not_each_other() {
    check("server = 5\n", &["1: server: is a section, not a integer; write [server]"]);
    check("[log.level]\nx = 1\n", &["1: log.level: is map, expected a string"]);
}

#[test]
fn a_missing_file_says_where_to_start() {
    let errors = Config::load(Some("no/such/file.toml".as_ref()), &|_| None).unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("no/such/file.toml: there is no such file; examples/facestream.toml"), "{text}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        "[ingest]\nwatchdog_ms = 7000\n[log]\nlevel = \"warn\"\n",
        &[
            ("FACESTREAM_INGEST_WATCHDOG_MS", "5000"),
            ("FACESTREAM_SERVER_LISTEN", "127.0.0.1:9000"),
            ("FACESTREAM_LOG_FORMAT", "json"),
            ("FACESTREAM_SINKS_KAFKA_BROKERS", "a:9092, b:9092"),
            ("FACESTREAM_SINKS_KAFKA_PROPERTIES", "{ \"sasl.password\" = \"x\" }"),
            ("FACESTREAM_INGEST_ADDRESSES_ALLOW_PORTS", "[554, 8554]"),
            ("FACESTREAM_INFER_NMS_IOU", "0.5"),
            ("FACESTREAM_DEFAULTS_GUESTS_TRACKER_GUEST", "bytetrack"),
        ],
    )
    .unwrap();
    assert_eq!(config.ingest.watchdog_ms, 5000);
    assert_eq!(config.server.listen.port(), 9000);
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "warn"));
    assert_eq!(config.sinks.kafka.as_ref().unwrap().brokers, ["a:9092", "b:9092"]);
    assert_eq!(config.ingest.addresses.allow_ports, [554, 8554]);
    assert_eq!(config.infer.nms_iou, Some(0.5));
    assert_eq!(config.defaults.guests.tracker.guest, "bytetrack");
    assert_eq!(config.defaults.guests.scorer.guest, "best-shot");
}

#[test]
fn an_option_is_named_where_the_value_came_from_it() {
    let open = |name: &str| (name == "FACESTREAM_SERVER_LISTEN").then(|| "0.0.0.0:1".to_owned());
    let errors = Config::load(None, &open).unwrap_err();
    assert!(errors.to_string().contains("variable FACESTREAM_SERVER_LISTEN: server.listen"), "{errors}");
    let told = errors.told_by("--listen", "FACESTREAM_SERVER_LISTEN").to_string();
    assert!(told.contains("option --listen: server.listen") && !told.contains("FACESTREAM_SERVER_LISTEN"), "{told}");
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let found = problems(
        "",
        &[
            ("FACESTREAM_INGEST_WATCHDOG_MS", "soon"),
            ("FACESTREAM_DECODE_THREADS", "-1"),
            ("FACESTREAM_DECODE_MAX_WIDTH", "1"),
        ],
    );
    assert_eq!(found.len(), 3, "{found:?}");
    for name in ["FACESTREAM_INGEST_WATCHDOG_MS", "FACESTREAM_DECODE_THREADS", "FACESTREAM_DECODE_MAX_WIDTH"] {
        assert!(found.iter().any(|p| p.contains(&format!("environment variable {name}: "))), "{found:?}");
    }
}

#[test]
fn a_variable_that_is_no_key_is_told_with_the_one_that_was_meant() {
    let env = BTreeMap::from([
        ("FACESTREAM_SERVER_LISEN", "127.0.0.1:9000"),
        ("FACESTREAM_KAFKA_BROKERS", "kafka:9092"),
        ("FACESTREAM_DECODE_COLOUR", "canary"),
        // Nobody's mistakes: another program's, Kubernetes', one that the file names, one of our own.
        ("FACESTREAM_IMAGE_TAG", "1.0"),
        ("FACESTREAM_SERVICE_HOST", "10.0.0.1"),
        ("FACESTREAM_SERVER_PORT", "tcp://10.0.0.1:8080"),
        ("FACESTREAM_SERVER_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("FACESTREAM_REGISTRIES_PASSWORD", "canary"),
        ("FACESTREAM_ASSETS", "/usr/share/facestream"),
    ]);
    let names: Vec<String> = env.keys().map(|&name| name.to_owned()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("facestream.toml");
    let registry = "[[registries.allow]]\nhost = \"a.example\"\nuser = \"reader\"\n\
                    password_env = \"FACESTREAM_REGISTRIES_PASSWORD\"\n";
    std::fs::write(&path, registry).unwrap();
    let values = |name: &str| env.get(name).map(|&value| value.to_owned());
    let errors = super::load::load(Some(&path), &values, &names).unwrap_err().to_string();
    let found: Vec<&str> = errors.lines().skip(1).map(str::trim).collect();
    let expected = [
        "environment variable FACESTREAM_DECODE_COLOUR: no such key; examples/facestream.toml has them all",
        "environment variable FACESTREAM_KAFKA_BROKERS: no such key; did you mean FACESTREAM_SINKS_KAFKA_BROKERS?",
        "environment variable FACESTREAM_SERVER_LISEN: no such key; did you mean FACESTREAM_SERVER_LISTEN?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_level_that_is_none_is_refused_and_directives_are_not() {
    for (level, words) in [
        ("warning", "`warning` is no level; did you mean `warn`?"),
        ("loud", "`loud` is no level; known are error, warn, info, debug, trace, off; of a target write `loud=debug`"),
        ("info, warn", "` warn` is no level; did you mean `warn`?"),
        ("info,facestream_ingest", "of a target write `facestream_ingest=debug`"),
    ] {
        let expected = format!("2: log.level = \"{level}\": ");
        let found = problems(&format!("[log]\nlevel = \"{level}\"\n"), &[]);
        assert!(found.len() == 1 && found[0].contains(&expected) && found[0].contains(words), "{found:?}");
    }
    for level in ["warn", "INFO", "off", "info,facestream_ingest=debug", "warn,guest=off", "info,[span]=trace"] {
        load(&format!("[log]\nlevel = \"{level}\"\n"), &[]).unwrap_or_else(|e| panic!("{level}: {e}"));
    }
}

#[test]
fn a_size_that_is_none_is_told_with_one_that_is() {
    check("[infer]\ninput_size = 3\n", &["2: infer.input_size: is no size; write { long_side = 640 } or {"]);
}

#[test]
fn secrets_are_not_repeated() {
    let found = problems(
        "[server]\ngrace_ms = \"canary\"\n[[server.tokens]]\nname = \"a\"\nrole = \"viewer\"\ntoken = \"canary\"\n\
         [sinks.kafka]\nbrokers = [\"user:canary@host:9092\"]\nlinger_ms = \"canary\"\n",
        &[("FACESTREAM_DECODE_THREADS", "canary")],
    );
    assert!(!found.join("\n").contains("canary"), "{found:#?}");
    assert!(found.iter().any(|p| p.starts_with("6: server.tokens: a token needs 16 characters")), "{found:#?}");
    let registry = "[[registries.allow]]\nhost = \"a.example\"\nuser = \"reader\"\npassword = \"canary-canary\"\n";
    assert!(!format!("{:?}", load(registry, &[]).unwrap()).contains("canary"));
    let twice = problems(&format!("{registry}password_env = \"NAME\"\n"), &[]).join("\n");
    assert!(
        twice.contains("registries.allow: `a.example` needs user and one of") && !twice.contains("canary"),
        "{twice}"
    );
    let token = "[[server.tokens]]\nname = \"a\"\nrole = \"viewer\"\ntoken = \"canary-canary-canary\"\n";
    assert!(!format!("{:?}", load(token, &[]).unwrap()).contains("canary"));
}

#[test]
fn tokens_are_checked_one_by_one() {
    let text = "[[server.tokens]]\nname = \"a\"\nrole = \"viewer\"\ntoken = \"0123456789abcdef\"\n\n\
                [[server.tokens]]\nnmae = \"b\"\nrole = \"king\"\ntoken = \"0123456789abcdeg\"\n";
    let found = problems(text, &[]);
    assert!(found.iter().any(|p| p.contains("7: server.tokens.nmae: unknown key; did you mean `name`?")), "{found:#?}");
    assert!(found.iter().any(|p| p.contains("8: server.tokens: unknown variant `king`")), "{found:#?}");
}

#[test]
fn an_empty_section_counts() {
    // Kafka is on as soon as its section is there; without a broker that is a mistake.
    let found = problems("[sinks.kafka]\n", &[]);
    assert!(found.iter().any(|p| p.contains("brokers")), "{found:?}");
    // A key that is not there is told at the line of its section's first.
    check("[log]\nlevel = \"info\"\n\n[sinks.kafka]\nlinger_ms = 5\n", &["5: sinks.kafka.brokers is empty"]);
}

/// The example with every setting switched on.
fn uncommented() -> String {
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line != "#";
    EXAMPLE.lines().map(|line| if setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_valid_as_it_is_and_changes_nothing() {
    assert_eq!(load(EXAMPLE, &[]).unwrap(), Config::default());
}

#[test]
fn the_example_names_every_key_and_no_other_and_its_defaults_are_true() {
    let text = uncommented();
    load(&text, &[]).unwrap_or_else(|e| panic!("{e}"));
    let table: toml::Table = text.parse().unwrap();
    let value_at =
        |path: &[&str]| path.iter().try_fold(&toml::Value::Table(table.clone()), |at, key| at.get(key)).cloned();
    for leaf in of_config().leaves() {
        let key = leaf.path.join(".");
        let Some(value) = value_at(&leaf.path) else { panic!("the example does not name {key}") };
        if WITHOUT_DEFAULT.contains(&key.as_str()) {
            continue;
        }
        // The value by itself must change nothing; within Kafka nothing against its bare section.
        let alone = |value: Option<toml::Value>| {
            let (last, sections) = leaf.path.split_last().unwrap();
            let mut at = toml::Table::new();
            at.extend(value.map(|v| ((*last).to_owned(), v)));
            sections
                .iter()
                .rev()
                .fold(at, |inner, section| toml::Table::from_iter([((*section).to_owned(), toml::Value::Table(inner))]))
        };
        let with: Config = alone(Some(value)).try_into().unwrap();
        let without: Config = alone(None).try_into().unwrap();
        assert_eq!(with, without, "the example's value of {key} is not the default");
    }
    // Sections are there in full, so nothing is left over: unknown keys would have failed above.
}
