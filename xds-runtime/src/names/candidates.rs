//! The full names a name may stand for, in the order in which glibc's res_search asks for them.

use std::slice;

use super::ResolvConf;

/// The longest name in text form without its final dot (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A full name, lower case, without a final dot, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Candidate {
    /// Joins a name and a domain (`""` is the root); `None` when that is no name DNS could carry.
    fn join(name: &str, domain: &str) -> Option<Candidate> {
        let mut joined = Candidate { bytes: [0; MAX_NAME], len: 0 };
        joined.push(name)?;
        if !domain.is_empty() {
            joined.push(".")?;
            joined.push(domain)?;
        }
        Some(joined)
    }

    fn push(&mut self, text: &str) -> Option<()> {
        let end = self.len.checked_add(text.len())?;
        let room = self.bytes.get_mut(self.len..end)?;
        room.copy_from_slice(text.as_bytes());
        room.make_ascii_lowercase();
        self.len = end;
        Some(())
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only whole valid UTF-8 texts were put in.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// The candidates of a name; see [`candidates`].
#[derive(Debug, Clone)]
pub struct Candidates<'a> {
    name: &'a str,
    first: bool,
    search: slice::Iter<'a, String>,
    last: bool,
}

/// The candidates of a name, none when no host of a mesh can be called so. Allocates nothing.
///
/// A final dot makes a name absolute. Else, from `ndots` dots on it is tried as it is first; the search list follows;
/// what was not tried as it is comes as it is at the end. The first candidate too long for DNS ends the search.
pub fn candidates<'a>(name: &'a str, conf: &'a ResolvConf) -> Candidates<'a> {
    let (stem, absolute) = match name.strip_suffix('.') {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    if !is_host_name(stem) {
        return Candidates { name: "", first: false, search: [].iter(), last: false };
    }
    let dots = stem.bytes().filter(|b| *b == b'.').count();
    let first = absolute || dots >= conf.ndots;
    let search: &[String] = if absolute { &[] } else { &conf.search };
    let root_in_list = search.iter().any(String::is_empty);
    let kept_from_top = conf.no_tld_query && dots == 0 && !search.is_empty();
    Candidates { name: stem, first, search: search.iter(), last: !(first || root_in_list || kept_from_top) }
}

/// A full name, with or without its final dot, as its only candidate.
pub(super) fn absolute(name: &str) -> Candidates<'_> {
    let stem = name.strip_suffix('.').unwrap_or(name);
    Candidates { name: stem, first: is_host_name(stem), search: [].iter(), last: false }
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 bytes.
pub(super) fn is_host_name(name: &str) -> bool {
    let mut label = 0;
    for byte in name.bytes() {
        label = match byte {
            b'.' if label > 0 => 0,
            b'-' | b'_' => label + 1,
            _ if byte.is_ascii_alphanumeric() => label + 1,
            _ => return false,
        };
        if label > MAX_LABEL {
            return false;
        }
    }
    label > 0 && name.len() <= MAX_NAME
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        if std::mem::take(&mut self.first) {
            return Candidate::join(self.name, "");
        }
        if let Some(domain) = self.search.next() {
            if let Some(found) = Candidate::join(self.name, domain) {
                return Some(found);
            }
            // A query that cannot be made ends glibc's search.
            self.search = [].iter();
        }
        if std::mem::take(&mut self.last) { Candidate::join(self.name, "") } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ResolverEnv;
    use super::*;
    use proptest::prelude::*;

    const POD: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5";

    #[track_caller]
    fn check(conf: &str, name: &str, expected: &[&str]) {
        let conf = ResolvConf::parse(conf.as_bytes(), &ResolverEnv::default(), "host");
        let found: Vec<String> = candidates(name, &conf).map(|c| c.as_str().to_owned()).collect();
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn a_short_name_is_searched_for_before_it_is_tried_as_it_is() {
        let expected =
            ["greeter.shop.svc.cluster.local", "greeter.svc.cluster.local", "greeter.cluster.local", "greeter"];
        check(POD, "Greeter", &expected);
        check(
            POD,
            "db.other",
            &["db.other.shop.svc.cluster.local", "db.other.svc.cluster.local", "db.other.cluster.local", "db.other"],
        );
    }

    #[test]
    fn enough_dots_put_the_name_itself_first() {
        check("search a b", "x.y", &["x.y", "x.y.a", "x.y.b"]);
        check("search a\noptions ndots:2", "x.y", &["x.y.a", "x.y"]);
        check("search a\noptions ndots:0", "x", &["x", "x.a"]);
    }

    #[test]
    fn a_final_dot_leaves_only_the_name_itself() {
        check(POD, "greeter.", &["greeter"]);
        check(POD, "greeter.shop.svc.cluster.local.", &["greeter.shop.svc.cluster.local"]);
    }

    #[test]
    fn an_absolute_name_is_its_own_candidate_with_or_without_the_dot() {
        for (name, expected) in [("Greeter", Some("greeter")), ("a.b.", Some("a.b")), ("a..", None), ("", None)] {
            let found: Vec<String> = absolute(name).map(|c| c.as_str().to_owned()).collect();
            assert_eq!(found.first().map(String::as_str), expected, "{name}");
        }
    }

    #[test]
    fn without_a_search_list_the_name_stands_alone() {
        check("", "greeter", &["greeter"]);
        check("options no-tld-query", "greeter", &["greeter"]);
        check("search a\noptions no-tld-query", "greeter", &["greeter.a"]);
        check("search a .", "greeter", &["greeter.a", "greeter"]);
        check("search .b. c.", "x", &["x.b", "x.c", "x"]);
    }

    #[test]
    fn what_is_no_host_name_has_no_candidates() {
        for name in ["", ".", "a..b", ".a", "a..", "a b", "ä", "a/b", "a\0", "*.a"] {
            check(POD, name, &[]);
        }
        check("search a", &"x".repeat(64), &[]);
        check("", "_srv.under_score", &["_srv.under_score"]);
    }

    #[test]
    fn a_candidate_too_long_for_dns_ends_the_search_as_in_glibc() {
        let name = ["x".repeat(60), "y".repeat(60), "z".repeat(60), "w".repeat(60)].join(".");
        let (long, short) = ("d".repeat(12), format!("{name}.a"));
        check(&format!("search a {long} b"), &name, &[name.as_str(), short.as_str()]);
        check(&format!("search {long} a\noptions ndots:5"), &name, &[name.as_str()]);
    }

    proptest! {
        #[test]
        fn every_candidate_is_a_lower_case_host_name(
            name in "[a-zA-Z0-9._é-]{0,270}", file in "((search|domain|options) [a-zA-Z.: 0-9]{0,120}\n){0,3}",
        ) {
            let conf = ResolvConf::parse(file.as_bytes(), &ResolverEnv::default(), "a.b");
            for candidate in candidates(&name, &conf) {
                let text = candidate.as_str();
                prop_assert!(!text.is_empty() && text.len() <= MAX_NAME);
                prop_assert_eq!(text.to_ascii_lowercase(), text);
            }
        }
    }
}
