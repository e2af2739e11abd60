use std::path::Path;

use proptest::prelude::*;

use super::{Config, ConfigError, EXAMPLE};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("egress.toml"))
}

fn message(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// The example with every key in force. Prose has a space behind its `#`; keys, and the lines of a list, do not.
fn uncommented() -> String {
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') || key.trim_start().starts_with('"') => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The keys that exist at a place, as the parser names them when given one that does not.
fn keys(section: &str) -> Vec<String> {
    match parse(&format!("{section}\nno_such_key = 1")).expect_err(section) {
        ConfigError::Invalid { allowed, .. } => allowed,
        ConfigError::Read { .. } => unreachable!("nothing is read"),
    }
}

#[test]
fn nothing_and_the_example_and_the_example_in_force_are_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
    assert_eq!(parse(&uncommented()).unwrap(), Config::default());
}

#[test]
fn the_example_has_every_key_once() {
    let example = uncommented();
    let sections = keys("");
    assert_eq!(sections.len(), 8, "{sections:?}");
    for section in sections {
        let header = format!("[{section}]");
        let body = example.split_once(&header).expect(&header).1;
        let body = body.split_once("\n[").map_or(body, |(body, _)| body);
        if ["networks", "sensitive"].contains(&section.as_str()) {
            continue; // Open-ended: their defaults are compared above.
        }
        let keys = keys(&header);
        assert!(keys.len() > 1, "{section}: {keys:?}");
        for key in keys {
            let lines = body
                .lines()
                .filter(|line| line.starts_with(&format!("{key} = ")));
            assert_eq!(lines.count(), 1, "{section}.{key} in egress.example.toml");
        }
    }
}

#[test]
fn errors_say_where_and_what_is_allowed() {
    for (text, wants) in [
        (
            "[sensor]\nslot = 1",
            &[
                "egress.toml:2:1: unknown key `slot`",
                "did you mean `slots`?",
                "drain_interval",
            ][..],
        ),
        (
            "[sensors]",
            &[
                "egress.toml:1:2: unknown key `sensors`",
                "did you mean `sensor`?",
                "limits",
            ],
        ),
        (
            "[sensor]\nslots = 10",
            &["egress.toml:2:9: 10 is out of range", "1024 to 1048576"],
        ),
        ("[sensor]\nslots = -1", &["-1 is out of range"]),
        (
            "[sensor]\nslots = \"many\"",
            &["egress.toml:2:9: invalid type: string \"many\""],
        ),
        (
            "[sensor]\nprocess_ring_bytes = 100000",
            &["not a power of two"],
        ),
        (
            "[sensor]\nfile_ring_bytes = [1]",
            &["egress.toml:2:19:", "64MiB"],
        ),
        (
            "[sensor]\ndrain_interval = \"5s\"",
            &["2:18: \"5s\" is out of range", "10ms to 1s"],
        ),
        (
            "[sensor]\ndrain_interval = \"fast\"",
            &["\"fast\" is not a duration", "\"100ms\""],
        ),
        (
            "[sensor]\ndisable = [\"a b\"]",
            &["\"a b\" cannot be a name"],
        ),
        (
            "[networks]\noffice = [\"198.51.100.0/33\"]",
            &[
                "2:11: \"198.51.100.0/33\" is not a network",
                "198.51.100.0/24",
            ],
        ),
        (
            "[networks]\noffice = [\"198.51.100.7/24\"]",
            &["bits set behind its prefix", "\"198.51.100.0/24\""],
        ),
        (
            "[networks]\nprivate = []",
            &["2:1: `private` is a built-in scope"],
        ),
        (
            "[networks]\na = [\"192.0.2.1\"]\nb = [\"192.0.2.1/32\"]",
            &["3:6: 192.0.2.1/32 is already in `a`"],
        ),
        (
            "[sensitive]\nx = [\"/srv/{a\"]",
            &["2:6: \"/srv/{a\" is not a glob"],
        ),
        (
            "[sensitive]\nx = [\"srv/**\"]",
            &["does not begin with `/`", "\"/srv/**\""],
        ),
        (
            "[detection]\nignore_scopes = [\"loopbak\"]",
            &["2:18:", "did you mean `loopback`?", "private, public"],
        ),
        ("[detection]\nmin_score = 101", &["0 to 100"]),
        (
            "[events]\nfiles = \"al\"",
            &["did you mean `all`?", "none, sensitive, all"],
        ),
        (
            "[events]\nrotate_bytes = \"1kB\"",
            &["\"1kB\" is out of range", "64KiB to 1024GiB"],
        ),
        (
            "[metrics]\nlisten = \"localhost:9468\"",
            &["2:10:", "127.0.0.1:9468"],
        ),
        ("[metrics\n", &["egress.toml:1:"]),
    ] {
        let message = message(text);
        for want in wants {
            assert!(
                message.contains(want),
                "{text:?}: {message:?} does not say {want:?}"
            );
        }
        assert!(!message.contains('\n'), "{message:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nowhere/egress.toml")).expect_err("is not there");
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/egress.toml: cannot read"),
        "{error}"
    );
}

#[test]
fn values_take_effect() {
    let config = parse(
        "[sensor]\nslots = 2048\nfile_ring_bytes = 65536\n\
         [networks]\noffice = [\"198.51.100.0/24\", \"2001:db8::1\"]\n\
         [sensitive]\nbusiness = []\nlab = [\"/lab/**\"]\n\
         [detection]\nignore_scopes = [\"office\"]\nbulk_bytes = \"1MiB\"\n\
         [events]\npath = \"-\"\nfiles = \"all\"\n",
    )
    .unwrap();
    assert_eq!(config.sensor.slots, 2048);
    assert_eq!(config.sensor.file_ring_bytes, 65536);
    assert_eq!(
        config.networks.0["office"][1].to_string(),
        "2001:db8::1/128"
    );
    assert!(
        !config.sensitive.labels.contains_key("business"),
        "an empty list removes"
    );
    assert!(
        config.sensitive.labels.contains_key("keys"),
        "other labels stay"
    );
    assert_eq!(config.sensitive.labels["lab"], ["/lab/**"]);
    assert_eq!(config.detection.ignore_scopes, ["office"]);
    assert_eq!(config.detection.bulk_bytes, 1 << 20);
    assert_eq!(config.events.path.as_deref(), Some(Path::new("-")));
}

proptest! {
    #[test]
    fn hostile_text_never_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn hostile_values_never_panic(
        section in 0_usize..7, key in 0_usize..10,
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}")),
            ".{0,40}".prop_map(|s| format!("{s:?}")),
            r"/[*?{}\[\]!,a-z/\\-]{0,40}".prop_map(|s| format!("[{s:?}]")),
            r"[0-9a-f:./]{0,30}".prop_map(|s| format!("[{s:?}]")),
        ],
    ) {
        let sections = keys("");
        let section = &sections[section % sections.len()];
        let header = format!("[{section}]");
        let key = match section.as_str() {
            "networks" | "sensitive" => "name".to_owned(),
            _ => { let keys = keys(&header); keys[key % keys.len()].clone() }
        };
        let text = format!("# é\n{header}\n{key} = {value}\n");
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().starts_with("egress.toml:"), "{}", error);
        }
    }

    #[test]
    fn the_example_with_bytes_knocked_out_never_panics(at in any::<prop::sample::Index>(), with in any::<char>()) {
        let text: Vec<char> = uncommented().chars().collect();
        let at = at.index(text.len());
        let text: String = text.iter().enumerate().map(|(i, c)| if i == at { with } else { *c }).collect();
        let _ = parse(&text);
    }
}

#[test]
fn a_glob_too_large_to_compile_is_an_error() {
    let braces = format!("/{}", "{a,b,c,d,e,f}*[a-z]".repeat(200));
    let _ = parse(&format!("[sensitive]\nx = [{braces:?}]"));
    let deep = "[".repeat(100_000);
    let _ = parse(&format!("a = {deep}"));
}
