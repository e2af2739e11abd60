//! Imports run one way: `cli -> runtime -> (sensor, lineage, attribution, detect, outlet) -> model`.
//!
//! The sources are read as tokens, so that `use` groups, paths in expressions and macros count, and comments and
//! strings do not. A room that is not listed here fails: whoever adds one decides where it stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each room of `egress-user`, and the rooms that it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &[]),
    ("sensor", &["model", "config"]),
    ("lineage", &["model", "config"]),
    ("attribution", &["model", "config", "lineage"]),
    ("detect", &["model", "config", "lineage"]),
    ("outlet", &["model", "config"]),
    (
        "runtime",
        &[
            "model",
            "config",
            "sensor",
            "lineage",
            "attribution",
            "detect",
            "outlet",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "config",
            "sensor",
            "lineage",
            "attribution",
            "detect",
            "outlet",
            "runtime",
        ],
    ),
];

/// Rooms whose results must be the same when a recording is replayed, and what would make them differ.
const DETERMINISTIC: &[&str] = &["model", "detect"];
const CLOCKS_AND_SYSTEM: &[&[&str]] = &[
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["std", "fs"],
    &["std", "process"],
    &["std", "thread"],
    &["libc"],
    &["rustix"],
    &["tokio"],
    &["aya"],
    &["procfs"],
];

/// Crates of this workspace that each crate may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("egress-common", &[]),
    ("egress-ebpf", &["egress-common"]),
    ("egress-user", &["egress-common"]),
    ("tests", &["egress-common", "egress-user"]),
    ("xtask", &[]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A path as it is written (`crate::detect::score`), resolved against the module that it is written in.
type ModulePath = Vec<String>;

/// Every path in `source`, `crate`, `self` and `super` resolved, and each member of a `use` group on its own.
fn paths(source: &str, module: &[String]) -> Result<Vec<ModulePath>> {
    let tokens = TokenStream::from_str(source).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut found = Vec::new();
    walk(tokens, module, &mut found);
    Ok(found)
}

fn walk(tokens: TokenStream, module: &[String], found: &mut Vec<ModulePath>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                // `mod name { ... }`: what is inside is one module deeper. `mod name;` is a file of its own.
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(body.stream(), &inner, found);
                    at += 3;
                } else {
                    at += 1;
                }
            }
            TokenTree::Ident(_) => at = path(&tokens, at, Vec::new(), module, found),
            TokenTree::Group(group) => {
                walk(group.stream(), module, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Reads the path that begins at `at`, told `prefix` by the groups around it, and returns where it ends.
fn path(
    tokens: &[TokenTree],
    mut at: usize,
    mut prefix: ModulePath,
    module: &[String],
    found: &mut Vec<ModulePath>,
) -> usize {
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        prefix.push(word.to_string());
        at += 1;
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
        if let Some(TokenTree::Group(group)) = tokens.get(at)
            && group.delimiter() == Delimiter::Brace
        {
            let members: Vec<TokenTree> = group.stream().into_iter().collect();
            let mut member = 0;
            while member < members.len() {
                member = if matches!(members.get(member), Some(TokenTree::Ident(_))) {
                    path(&members, member, prefix.clone(), module, found)
                } else {
                    member + 1
                };
            }
            return at + 1;
        }
    }
    found.push(resolve(prefix, module));
    at
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    [at, at + 1].iter().all(
        |at| matches!(tokens.get(*at), Some(TokenTree::Punct(colon)) if colon.as_char() == ':'),
    )
}

/// `crate::a::b` is `crate, a, b` wherever it is written; another crate's path stays as it is.
fn resolve(path: ModulePath, module: &[String]) -> ModulePath {
    let mut words = path.into_iter().peekable();
    let mut base: ModulePath = match words.peek().map(String::as_str) {
        Some("super" | "self") => [&["crate".to_owned()], module].concat(),
        _ => return words.collect(),
    };
    for word in words {
        match word.as_str() {
            "super" => {
                base.pop();
            }
            "self" => {}
            _ => base.push(word),
        }
    }
    base
}

/// The room that a path of `egress-user` leads to.
fn room(path: &[String]) -> Option<&str> {
    match path {
        [first, room, ..] if first == "crate" || first == "egress_user" => ROOMS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| name == room),
        _ => None,
    }
}

/// What is wrong with the imports of one file.
fn violations(source: &str, module: &[String]) -> Result<Vec<String>> {
    let own = module.first().map_or("", String::as_str);
    let (_, allowed) = ROOMS
        .iter()
        .find(|(name, _)| *name == own)
        .with_context(|| {
            format!("room {own:?} is not listed in this test: decide what it may import")
        })?;
    let mut wrong = Vec::new();
    for path in paths(source, module)? {
        if let Some(room) = room(&path)
            && room != own
            && !allowed.contains(&room)
        {
            wrong.push(format!("{own} imports {}", path.join("::")));
        }
        let banned = |banned: &&&[&str]| path.windows(banned.len()).any(|words| words == **banned);
        let is_external = path.first().is_some_and(|first| first != "crate");
        if DETERMINISTIC.contains(&own)
            && is_external
            && path.len() > 1
            && let Some(banned) = CLOCKS_AND_SYSTEM.iter().find(banned)
        {
            wrong.push(format!("{own} must not depend on {}", banned.join("::")));
        }
    }
    Ok(wrong)
}

/// Rust files under `directory`, with their module paths: `detect/mod.rs` is `[detect]`.
fn modules(directory: &Path, module: &[String]) -> Result<Vec<(PathBuf, ModulePath)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            all.extend(modules(&path, &[module, &[name]].concat())?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_root = ["mod", "lib", "main"].contains(&name.as_str());
            let own = if is_root {
                module.to_vec()
            } else {
                [module, &[name]].concat()
            };
            all.push((path, own));
        }
    }
    Ok(all)
}

#[test]
fn no_import_runs_against_the_direction() -> Result<()> {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, module) in modules(&workspace().join("egress-user/src"), &[])? {
        // lib.rs and main.rs only name the rooms.
        if module.is_empty() {
            continue;
        }
        seen += 1;
        let source = fs::read_to_string(&file)?;
        let found = violations(&source, &module).with_context(|| file.display().to_string())?;
        wrong.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", file.display())),
        );
    }
    ensure!(seen >= ROOMS.len(), "only {seen} files were found");
    ensure!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn crates_depend_in_one_direction() -> Result<()> {
    for (name, allowed) in CRATES {
        let manifest = workspace().join(name).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        for (member, _) in CRATES {
            let depends = text.lines().any(|line| {
                line.strip_prefix(member)
                    .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            });
            ensure!(
                !depends || allowed.contains(member),
                "{name} depends on {member}"
            );
        }
    }
    Ok(())
}

#[test]
fn violations_are_found_however_they_are_written() -> Result<()> {
    let in_detect = |source: &str| violations(source, &["detect".to_owned(), "score".to_owned()]);
    for source in [
        "use crate::sensor::Source;",
        "use crate::{model::Job, runtime};",
        "use crate::{model::{self, Job}, outlet::{Json, Queue}};",
        "use super::super::sensor;",
        "fn f() { crate::outlet::send(); }",
        "fn f() { println!(\"{}\", crate::cli::NAME); }",
        "mod tests { use super::super::super::attribution; }",
        "pub use egress_user::runtime;",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::{fs, io};",
        "fn f() { let _ = std::time::SystemTime::now(); }",
        "use libc::getpid;",
    ] {
        ensure!(!in_detect(source)?.is_empty(), "not found in: {source}");
    }
    for source in [
        "use crate::model::Job; use crate::lineage::Tree; use crate::detect::signal;",
        "use super::cadence; use self::inner::X; use super::super::config;",
        "//! See [`crate::sensor`].\n/* crate::sensor */ const S: &str = \"crate::sensor::X\";",
        "pub(crate) fn f() {} pub(super) fn g() {}",
        "mod tests { use super::super::cadence; use super::*; }",
        "use std::collections::BTreeMap; use std::time::Duration; fn sensor() {}",
    ] {
        let found = in_detect(source)?;
        ensure!(found.is_empty(), "{found:?} in: {source}");
    }
    ensure!(
        violations("", &["cellar".to_owned()]).is_err(),
        "an unlisted room passes"
    );
    Ok(())
}
