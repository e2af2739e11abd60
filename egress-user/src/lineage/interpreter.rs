//! What an interpreter was given to run, told from its arguments.
//!
//! These are heuristics, after the manuals of the interpreters. They only help to *name* a job; nothing is
//! suppressed because of them. Where the kernel itself ran a script (`#!`), they are not asked.

use crate::model::Text;

/// What an interpreter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// A file, as named by the caller.
    File(&'a [u8]),
    /// The text of a program (`sh -c`, `perl -e`).
    Code(&'a [u8]),
    /// A module by name (`python -m`).
    Module(&'a [u8]),
    /// What comes on standard input.
    Stdin,
}

/// How a family of interpreters reads its arguments. Single letters are short options.
struct Language {
    /// File names without version numbers at their end.
    names: &'static [&'static str],
    /// A shell: options may begin with `+`, and the text of `-c` is the first operand, not the option's argument.
    shell: bool,
    /// Take program text.
    code: &'static [u8],
    /// Take a module's name.
    module: &'static [u8],
    /// Take the script's path.
    file: &'static [u8],
    /// Take something else, in the same argument or in the next.
    takes: &'static [u8],
    /// Take what follows in the same argument, if anything does.
    attached: &'static [u8],
    /// Long options that take program text.
    long_code: &'static [&'static [u8]],
    /// Long options that take something else in the next argument.
    long_takes: &'static [&'static [u8]],
}

const PLAIN: Language = Language {
    names: &["tclsh", "wish", "Rscript", "escript"],
    shell: false,
    code: b"",
    module: b"",
    file: b"",
    takes: b"",
    attached: b"",
    long_code: &[],
    long_takes: &[],
};

const LANGUAGES: &[Language] = &[
    Language {
        names: &[
            "sh", "dash", "bash", "rbash", "zsh", "ksh", "mksh", "ash", "yash", "fish",
        ],
        shell: true,
        code: b"c",
        takes: b"oO",
        long_takes: &[b"--rcfile", b"--init-file"],
        ..PLAIN
    },
    Language {
        names: &["python", "pypy"],
        code: b"c",
        module: b"m",
        takes: b"WXQ",
        long_takes: &[b"--check-hash-based-pycs"],
        ..PLAIN
    },
    Language {
        names: &["perl"],
        code: b"eE",
        takes: b"I",
        attached: b"MmiFCDdxV",
        ..PLAIN
    },
    Language {
        names: &["ruby", "jruby"],
        code: b"e",
        takes: b"IrCE",
        attached: b"FixKTW",
        ..PLAIN
    },
    Language {
        names: &["node", "nodejs"],
        code: b"ep",
        takes: b"rC",
        long_code: &[b"--eval", b"--print"],
        long_takes: &[
            b"--require",
            b"--import",
            b"--loader",
            b"--experimental-loader",
            b"--conditions",
            b"--env-file",
        ],
        ..PLAIN
    },
    Language {
        names: &["php", "php-cgi"],
        code: b"rRBE",
        file: b"fF",
        takes: b"dczSt",
        long_code: &[b"--run"],
        ..PLAIN
    },
    Language {
        names: &["lua", "luajit"],
        code: b"e",
        takes: b"l",
        ..PLAIN
    },
    PLAIN,
];

/// Whether an executable of this file name is a shell.
pub(super) fn is_shell(file_name: &[u8], args: &[Text]) -> bool {
    language(applet(file_name, args).0).is_some_and(|language| language.shell)
}

/// What the interpreter was given; `None` if it is none that is known here, or if its arguments do not tell.
pub(super) fn given<'a>(file_name: &[u8], args: &'a [Text]) -> Option<Given<'a>> {
    let (name, args) = applet(file_name, args);
    let language = language(name)?;
    let mut args = args.iter().map(Text::as_bytes);
    let mut code = false;
    let mut stdin = false;
    let operand = 'options: loop {
        let Some(arg) = args.next() else { break None };
        match arg {
            b"--" => break args.next(),
            b"-" if language.shell => break args.next(),
            b"-" => return Some(Given::Stdin),
            [b'-', b'-', ..] => {
                let mut parts = arg.splitn(2, |b| *b == b'=');
                let name = parts.next().unwrap_or_default();
                let value = parts.next();
                if language.long_code.contains(&name) {
                    return value.or_else(|| args.next()).map(Given::Code);
                }
                if value.is_none() && language.long_takes.contains(&name) {
                    args.next();
                }
            }
            [sign @ (b'-' | b'+'), letters @ ..] if *sign == b'-' || language.shell => {
                let mut letters = letters;
                while let [letter, rest @ ..] = letters {
                    letters = rest;
                    let value = (!rest.is_empty()).then_some(rest);
                    if language.code.contains(letter) {
                        if !language.shell {
                            return value.or_else(|| args.next()).map(Given::Code);
                        }
                        code = true;
                    } else if language.module.contains(letter) {
                        return value.or_else(|| args.next()).map(Given::Module);
                    } else if language.file.contains(letter) {
                        return value.or_else(|| args.next()).map(Given::File);
                    } else if language.takes.contains(letter) {
                        // A shell's `-eo pipefail -c`: the value is always the next argument.
                        if value.is_none() || language.shell {
                            args.next();
                        }
                        if !language.shell {
                            continue 'options;
                        }
                    } else if language.attached.contains(letter) {
                        continue 'options;
                    } else if language.shell && *letter == b's' {
                        stdin = true;
                    }
                }
            }
            operand => break Some(operand),
        }
    };
    match operand {
        Some(text) if code => Some(Given::Code(text)),
        Some(path) if !stdin => Some(Given::File(path)),
        None if code => None,
        _ => Some(Given::Stdin),
    }
}

/// Name and arguments behind it, with busybox seen through: it is what its first argument or its own name says.
fn applet<'b, 'a: 'b>(file_name: &'b [u8], args: &'a [Text]) -> (&'b [u8], &'a [Text]) {
    let (first, rest) = args
        .split_first()
        .map_or((&b""[..], args), |(first, rest)| (first.file_name(), rest));
    if file_name != b"busybox" {
        return (file_name, rest);
    }
    let first = first.strip_prefix(b"-").unwrap_or(first);
    match rest.split_first() {
        Some((applet, rest)) if first == b"busybox" => (applet.file_name(), rest),
        _ => (first, rest),
    }
}

/// `python3.11` is `python`.
fn language(name: &[u8]) -> Option<&'static Language> {
    let end = name
        .iter()
        .rposition(|b| !(b.is_ascii_digit() || matches!(b, b'.' | b'-')))?;
    let name = name.get(..=end)?;
    LANGUAGES
        .iter()
        .find(|language| language.names.iter().any(|n| n.as_bytes() == name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Given, given, is_shell};
    use crate::model::Text;

    fn args(line: &[&str]) -> Vec<Text> {
        line.iter().map(|a| Text::from(*a)).collect()
    }

    #[test]
    fn arguments_of_the_real_world() {
        let file = |p: &'static str| Some(Given::File(p.as_bytes()));
        let code = |p: &'static str| Some(Given::Code(p.as_bytes()));
        let module = |p: &'static str| Some(Given::Module(p.as_bytes()));
        let rows: &[(&str, &[&str], Option<Given>)] = &[
            ("dash", &["sh", "/opt/x.sh", "-c", "no"], file("/opt/x.sh")),
            ("dash", &["sh", "-e", "x.sh"], file("x.sh")),
            (
                "dash",
                &["/bin/sh", "-c", "tar c /srv | curl -T - h"],
                code("tar c /srv | curl -T - h"),
            ),
            ("bash", &["bash", "-c", "-e", "text", "argv0"], code("text")),
            ("bash", &["bash", "-lc", "text"], code("text")),
            (
                "bash",
                &["bash", "-euo", "pipefail", "-c", "text"],
                code("text"),
            ),
            (
                "bash",
                &["bash", "--rcfile", "/x", "--norc", "script"],
                file("script"),
            ),
            ("bash", &["bash", "+x", "--", "-odd"], file("-odd")),
            ("bash", &["-bash"], Some(Given::Stdin)),
            ("bash", &["bash", "-s", "arg"], Some(Given::Stdin)),
            ("bash", &["bash", "-c"], None),
            ("ksh93", &["ksh", "a"], file("a")),
            ("busybox", &["sh", "-c", "text"], code("text")),
            ("busybox", &["-sh"], Some(Given::Stdin)),
            ("busybox", &["busybox", "ash", "/x"], file("/x")),
            ("busybox", &["wget", "http://h"], None),
            (
                "python3.11",
                &["python3", "-u", "/x.py", "-m", "y"],
                file("/x.py"),
            ),
            (
                "python3.11",
                &["python3", "-m", "http.server"],
                module("http.server"),
            ),
            ("python3.11", &["python3", "-uc", "code"], code("code")),
            ("python3.11", &["python3", "-ccode"], code("code")),
            (
                "python3",
                &["python3", "-W", "ignore", "-Xdev", "x.py"],
                file("x.py"),
            ),
            ("python3", &["python3", "-"], Some(Given::Stdin)),
            ("perl5.36.0", &["perl", "-lane", "print"], code("print")),
            (
                "perl",
                &["perl", "-MSocket", "-I", "/lib", "x.pl"],
                file("x.pl"),
            ),
            ("perl", &["perl", "-i.bake", "x.pl"], file("x.pl")),
            ("ruby3.1", &["ruby", "-rsocket", "-e", "code"], code("code")),
            ("ruby3.1", &["ruby", "-r", "socket", "x.rb"], file("x.rb")),
            (
                "node",
                &[
                    "node",
                    "--require",
                    "./a.js",
                    "--max-old-space-size=1",
                    "b.js",
                ],
                file("b.js"),
            ),
            ("node", &["node", "--eval=code"], code("code")),
            ("node", &["node", "-e", "code"], code("code")),
            (
                "php8.2",
                &["php", "-d", "a=b", "-f", "x.php"],
                file("x.php"),
            ),
            ("php8.2", &["php", "-r", "code"], code("code")),
            ("lua5.4", &["lua", "-l", "socket", "x.lua"], file("x.lua")),
            ("tclsh8.6", &["tclsh", "x.tcl"], file("x.tcl")),
            ("curl", &["curl", "-T", "x"], None),
            ("", &[], None),
            ("3.11", &["3.11"], None),
            ("sh", &[], Some(Given::Stdin)),
        ];
        for (name, line, expected) in rows {
            assert_eq!(
                given(name.as_bytes(), &args(line)),
                *expected,
                "{name} {line:?}"
            );
        }
        assert!(is_shell(b"bash", &[]));
        assert!(is_shell(b"busybox", &args(&["-ash"])));
        assert!(!is_shell(b"python3", &[]));
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken(
            name in "(sh|bash|python3|perl|ruby|node|php|lua|busybox|tclsh)",
            line in prop::collection::vec("[-+=a-zA-Z]{0,6}", 0..8),
        ) {
            let line: Vec<Text> = line.iter().map(|a| Text::from(a.as_str())).collect();
            given(name.as_bytes(), &line);
        }
    }
}
