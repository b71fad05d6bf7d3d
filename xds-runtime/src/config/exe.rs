//! `LDMESH_EXCLUDE_EXE`: which executables stay out of the mesh.

use std::str::FromStr;

use super::value::Remedy;

/// Globs over an executable's path: `*` is any run of bytes (a slash too), `?` any one byte. A glob counts when it
/// covers the whole path or the whole base name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExeGlobs(Vec<String>);

impl ExeGlobs {
    /// Whether the executable at this path (as `/proc/self/exe` gives it) stays out. Allocates nothing.
    pub fn matches(&self, exe: &[u8]) -> bool {
        let base = exe.rsplit(|b| *b == b'/').next().unwrap_or(exe);
        self.0.iter().any(|glob| glob_matches(glob.as_bytes(), exe) || glob_matches(glob.as_bytes(), base))
    }

    /// Whether there is no glob: then the executable's path need not be read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for ExeGlobs {
    type Err = Remedy;
    fn from_str(text: &str) -> Result<Self, Remedy> {
        Ok(ExeGlobs(text.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect()))
    }
}

/// Greedy matching with one point to go back to: the last `*` and where its run ended. At most
/// `glob.len() * text.len()` steps.
fn glob_matches(mut glob: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (glob.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, text));
                glob = rest;
                continue;
            }
            (Some((g, glob_rest)), Some((t, text_rest))) if *g == b'?' || g == t => {
                glob = glob_rest;
                text = text_rest;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after_star, [_, shorter @ ..])) = retry else {
            return false;
        };
        retry = Some((after_star, shorter));
        glob = after_star;
        text = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(globs: &str, exe: &str, expected: bool) {
        let parsed: ExeGlobs = globs.parse().unwrap();
        assert_eq!(parsed.matches(exe.as_bytes()), expected, "{globs} on {exe}");
    }

    #[test]
    fn a_glob_covers_the_whole_path_or_the_whole_base_name() {
        check("pilot-agent", "/usr/local/bin/pilot-agent", true);
        check("pilot", "/usr/local/bin/pilot-agent", false);
        check("envoy,python3*", "/usr/bin/python3.11", true);
        check("/opt/*/bin/java", "/opt/a/b/bin/java", true);
        check("/opt/*/bin/java", "/usr/bin/java", false);
        check("python3.??", "/usr/bin/python3.11", true);
        check("python3.??", "/usr/bin/python3.9", false);
        check("*", "/anything", true);
        check("", "/anything", false);
        check("*a*b*", "/x/aXb", true);
        check("*ab", "/aab", true);
    }

    /// The obvious exponential matcher, as the oracle.
    fn slow(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], []) => true,
            ([b'*', g @ ..], t) => slow(g, t) || matches!(t, [_, rest @ ..] if slow(glob, rest)),
            ([b'?', g @ ..], [_, t @ ..]) => slow(g, t),
            ([a, g @ ..], [b, t @ ..]) => a == b && slow(g, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_matcher_agrees_with_the_definition(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(glob_matches(glob.as_bytes(), text.as_bytes()), slow(glob.as_bytes(), text.as_bytes()));
        }
    }
}
