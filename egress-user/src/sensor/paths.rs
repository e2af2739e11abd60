//! Bytes as the kernel side hands them over, turned into paths, names and arguments.

use crate::model::Text;

/// The path of leaf-first, NUL-terminated components (see [`egress_common::records`]): `b\0a\0` is `/a/b`.
///
/// The root's own name (`/`) and empty components are skipped; nothing but the root is `/`, no bytes at all an
/// empty text. Unless `complete`, what was cut is the upper end, and the path is told as the relative one that is
/// left: `/etc/shadow` must not appear out of `/tmp/deep/.../etc/shadow`.
#[must_use]
pub fn components_to_path(bytes: &[u8], complete: bool) -> Text {
    if bytes.is_empty() {
        return Text::default();
    }
    let mut path = Vec::with_capacity(bytes.len() + 1);
    for component in bytes.rsplit(|byte| *byte == 0) {
        if component.is_empty() || component == b"/" {
            continue;
        }
        if complete || !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    if path.is_empty() && complete {
        path.push(b'/');
    }
    path.into()
}

/// The arguments in argv as it lies in memory: each ends in a NUL. Empty arguments are arguments. A process may have
/// written over its argv, so that the last NUL is missing.
#[must_use]
pub fn split_args(bytes: &[u8]) -> Vec<Text> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(Text::from).collect()
}

/// The bytes before the first NUL: a C string in a field of fixed size.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> Text {
    bytes
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(bytes: &[u8]) -> String {
        components_to_path(bytes, true).to_string()
    }

    #[test]
    fn components_become_paths() {
        assert_eq!(path(b"shadow\0etc\0"), "/etc/shadow");
        assert_eq!(
            path(b"shadow\0etc\0/\0"),
            "/etc/shadow",
            "the root's own name"
        );
        assert_eq!(
            path(b"shadow\0etc"),
            "/etc/shadow",
            "the last NUL is missing"
        );
        assert_eq!(path(b"/\0"), "/");
        assert_eq!(path(b"\0"), "/");
        assert_eq!(path(b""), "", "not known");
        assert_eq!(path(b"memfd:x\0"), "/memfd:x");
        assert_eq!(path(b"a\0\0\0b\0"), "/b/a");
        assert_eq!(
            components_to_path(b"shadow\0etc\0", false).to_string(),
            "etc/shadow"
        );
        assert_eq!(components_to_path(b"\0", false).to_string(), "");
    }

    #[test]
    fn arguments_are_split() {
        let args = |bytes: &[u8]| {
            split_args(bytes)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(args(b"sh\0-c\0\0x y\0"), ["sh", "-c", "", "x y"]);
        assert_eq!(args(b"nginx: worker"), ["nginx: worker"]);
        assert_eq!(args(b"a\0\0"), ["a", ""]);
        assert!(args(b"").is_empty() && args(b"\0").is_empty());
    }

    proptest! {
        #[test]
        fn a_path_survives(components in prop::collection::vec("[^/\0]{1,12}", 1..8)) {
            let bytes: Vec<u8> =
                components.iter().rev().flat_map(|component| [component.as_bytes(), b"\0"].concat()).collect();
            let path = components_to_path(&bytes, true);
            prop_assert_eq!(path, Text::from(format!("/{}", components.join("/")).as_str()));
            let suffix = components_to_path(&bytes, false);
            prop_assert_eq!(suffix, Text::from(components.join("/").as_str()));
        }

        #[test]
        fn arguments_survive(args in prop::collection::vec("[^\0]{0,12}", 1..8)) {
            let bytes: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
            // A single empty argument cannot be told from none.
            prop_assume!(bytes != b"\0");
            prop_assert_eq!(split_args(&bytes), args.iter().map(|arg| Text::from(arg.as_str())).collect::<Vec<_>>());
        }
    }
}
