//! resolv.conf(5): the search list and the options that decide which names are tried.

use super::ResolverEnv;

/// glibc's RES_MAXNDOTS.
const MAX_NDOTS: i64 = 15;

/// What decides the candidates of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Domains to append, lower case, without dots at their ends; `""` is the root.
    pub(super) search: Vec<String>,
    /// From this many dots on a name is tried as it is first.
    pub(super) ndots: usize,
    /// `no-tld-query`: a name without dots is not tried as it is.
    pub(super) no_tld_query: bool,
}

impl ResolvConf {
    /// Parses the file's bytes as glibc does: the last of `domain` and `search` counts, `LOCALDOMAIN` replaces both,
    /// and without any the domain of the host name is searched.
    pub fn parse(file: &[u8], env: &ResolverEnv, hostname: &str) -> ResolvConf {
        let mut conf = ResolvConf { search: Vec::new(), ndots: 1, no_tld_query: false };
        let mut search: Option<Vec<String>> = None;
        for line in String::from_utf8_lossy(file).split('\n') {
            // A keyword stands at the line's beginning and ends in a blank.
            let Some((keyword, rest)) = line.split_once([' ', '\t']) else {
                continue;
            };
            match keyword {
                "domain" => search = words(rest).next().map(|word| vec![domain(word)]).or(search),
                "search" if words(rest).next().is_some() => search = Some(words(rest).map(domain).collect()),
                "options" => conf.options(rest),
                _ => {}
            }
        }
        if let Some(local) = &env.local_domain {
            search = Some(local.split('\n').take(1).flat_map(words).map(domain).collect());
        }
        conf.search =
            search.unwrap_or_else(|| hostname.split_once('.').map(|(_, rest)| domain(rest)).into_iter().collect());
        conf.options(env.res_options.as_deref().unwrap_or_default());
        conf
    }

    fn options(&mut self, text: &str) {
        for word in words(text) {
            if let Some(number) = word.strip_prefix("ndots:") {
                // A negative number ends in a field of four bits.
                let number = leading_number(number).min(MAX_NDOTS) & MAX_NDOTS;
                self.ndots = usize::try_from(number).unwrap_or_default();
            } else if word == "no-tld-query" {
                self.no_tld_query = true;
            }
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t']).filter(|word| !word.is_empty())
}

fn domain(word: &str) -> String {
    let word = word.strip_prefix('.').unwrap_or(word);
    word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase()
}

/// As atoi(3).
fn leading_number(text: &str) -> i64 {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let value: i64 = match digits.get(..end) {
        None | Some("") => 0,
        Some(digits) => digits.parse().unwrap_or(i64::MAX),
    };
    if negative { value.saturating_neg() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text.as_bytes(), &ResolverEnv::default(), "host")
    }

    #[test]
    fn a_pods_file_gives_its_search_list_and_ndots() {
        let conf = parse(
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local.\tCLUSTER.local\noptions ndots:5 rotate\n",
        );
        assert_eq!(conf.search, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.ndots, conf.no_tld_query), (5, false));
    }

    #[test]
    fn the_last_of_domain_and_search_counts_and_comments_do_not() {
        assert_eq!(parse("search a b\ndomain c d\n").search, ["c"]);
        assert_eq!(parse("domain c\nsearch a b").search, ["a", "b"]);
        assert_eq!(parse("search a\nsearch \n").search, ["a"]);
        assert_eq!(parse("#search a\n;search b\n search c\nsearchd\nsearch-x d").search, Vec::<String>::new());
        assert_eq!(parse("search a;b #c").search, ["a;b", "#c"], "a comment needs a line of its own");
    }

    #[test]
    fn ndots_is_bounded_as_in_glibc() {
        for (text, expected) in [("ndots:99", 15), ("ndots:0", 0), ("ndots:", 0), ("ndots:3x", 3), ("ndot:3", 1)] {
            assert_eq!(parse(&format!("options {text}\n")).ndots, expected, "{text}");
        }
        assert_eq!(parse("options ndots:-1").ndots, 15);
        assert_eq!(parse("options ndots:99999999999999999999").ndots, 15);
    }

    #[test]
    fn the_environment_replaces_the_list_and_follows_the_options() {
        let env = |local: &str, options: &str| ResolverEnv {
            local_domain: Some(local.into()),
            res_options: Some(options.into()),
            host_aliases: false,
        };
        let conf = ResolvConf::parse(b"search a\noptions ndots:5", &env("x y\nz", "ndots:2 no-tld-query"), "h.d");
        assert_eq!((conf.search, conf.ndots, conf.no_tld_query), (vec!["x".to_owned(), "y".to_owned()], 2, true));
        assert_eq!(ResolvConf::parse(b"search a", &env("", ""), "h.d").search, Vec::<String>::new());
    }

    #[test]
    fn without_a_list_the_hosts_own_domain_is_searched() {
        let conf = ResolvConf::parse(b"nameserver 1.1.1.1", &ResolverEnv::default(), "pod.Example.org");
        assert_eq!(conf.search, ["example.org"]);
    }
}
