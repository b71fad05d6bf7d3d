//! hosts(5): which names the file answers, and in which families.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Families of addresses, as asked for or as answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Families {
    /// v4.
    pub v4: bool,
    /// v6.
    pub v6: bool,
}

impl Families {
    /// AF_INET.
    pub const V4: Families = Families { v4: true, v6: false };
    /// AF_INET6. A lookup with AI_V4MAPPED asks for [`Families::ANY`]: a v4 line answers it.
    pub const V6: Families = Families { v4: false, v6: true };
    /// AF_UNSPEC.
    pub const ANY: Families = Families { v4: true, v6: true };

    fn meets(self, other: Families) -> bool {
        (self.v4 && other.v4) || (self.v6 && other.v6)
    }
}

/// The names of a hosts file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Sorted, lower case, each once.
    names: Vec<(String, Families)>,
}

impl Hosts {
    /// Parses the file's bytes as glibc's `files` does: `#` begins a comment, a line without an address is left out.
    pub fn parse(file: &[u8]) -> Hosts {
        let mut names: Vec<(String, Families)> = Vec::new();
        for line in String::from_utf8_lossy(file).split('\n') {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '\x0b').filter(|w| !w.is_empty());
            let Some(families) = words.next().and_then(families_of) else {
                continue;
            };
            names.extend(words.map(|name| (name.to_ascii_lowercase(), families)));
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        names.dedup_by(|(later, more), (kept, families)| {
            let same = later == kept;
            if same {
                families.v4 |= more.v4;
                families.v6 |= more.v6;
            }
            same
        });
        Hosts { names }
    }

    /// Whether the file answers this name, exactly as written but for case, in one of the families asked for.
    /// Allocates nothing.
    pub fn answers(&self, name: &str, asked: Families) -> bool {
        let order = |known: &str| known.bytes().cmp(name.bytes().map(|b| b.to_ascii_lowercase()));
        let found = self.names.binary_search_by(|(known, _)| order(known)).ok().and_then(|at| self.names.get(at));
        found.is_some_and(|(_, families)| families.meets(asked))
    }
}

/// glibc answers AF_INET from a v4-mapped line, and from `::1` with 127.0.0.1.
fn families_of(address: &str) -> Option<Families> {
    if address.parse::<Ipv4Addr>().is_ok() {
        return Some(Families::V4);
    }
    // inet_pton takes no scope.
    let v6: Ipv6Addr = address.parse().ok()?;
    Some(Families { v4: v6.to_ipv4_mapped().is_some() || v6.is_loopback(), v6: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_answered_in_the_families_of_their_lines() {
        let hosts = Hosts::parse(
            b"# comment\n127.0.0.1\tlocalhost\n10.0.0.1 Web.shop web # not-this\nfd00::1 web\n::1 loop\n\
              ::ffff:10.0.0.2 mapped\nnot-an-address lost\n10.0.0.300 lost\nfe80::1%eth0 lost\n10.0.0.9\n",
        );
        let yes = [
            ("LOCALHOST", Families::V4),
            ("web.shop", Families::V4),
            ("web", Families::V4),
            ("web", Families::V6),
            ("loop", Families::V4),
            ("loop", Families::V6),
            ("mapped", Families::V4),
            ("web.SHOP", Families::ANY),
        ];
        for (name, asked) in yes {
            assert!(hosts.answers(name, asked), "{name}");
        }
        let no = [
            ("web.shop", Families::V6),
            ("lost", Families::ANY),
            ("not-this", Families::ANY),
            ("we", Families::ANY),
            ("web.", Families::ANY),
            ("", Families::ANY),
            ("10.0.0.9", Families::ANY),
        ];
        for (name, asked) in no {
            assert!(!hosts.answers(name, asked), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_does_no_harm() {
        let hosts = Hosts::parse(b"10.0.0.1 \xff\xfe good\n\0\0\n");
        assert!(hosts.answers("good", Families::V4));
    }
}
