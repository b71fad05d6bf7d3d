//! A list of service names in a variable: `a.b`, `*.b`, or `*` for all.

use super::scope::NameRule;
use super::value::Remedy;

/// Which services a setting holds for. Empty = none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameList {
    all: bool,
    rules: Vec<NameRule>,
}

impl NameList {
    /// Parses a list separated by commas or blanks; returns what did not parse beside it.
    pub fn parse(text: &str) -> (Self, Vec<(String, Remedy)>) {
        let (mut list, mut bad) = (Self::default(), Vec::new());
        for entry in text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|entry| !entry.is_empty()) {
            match NameRule::parse(entry) {
                Some(rule) => list.rules.push(rule),
                None if entry == "*" => list.all = true,
                None => bad.push((entry.to_owned(), Remedy::new("use a name, *.suffix or *, separated by commas"))),
            }
        }
        (list, bad)
    }

    /// Whether the setting holds for a service of this name.
    pub fn matches(&self, name: &str) -> bool {
        self.all || self.rules.iter().any(|rule| rule.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_names_suffixes_and_all() {
        let (list, bad) = NameList::parse("greeter.shop.svc.cluster.local, *.bank.svc.cluster.local a..b,10.0.0.1");
        assert!(list.matches("Greeter.shop.svc.cluster.local"));
        assert!(list.matches("vault.bank.svc.cluster.local"));
        assert!(!list.matches("bank.svc.cluster.local") && !list.matches("other.shop.svc.cluster.local"));
        assert_eq!(bad.iter().map(|(entry, _)| entry.as_str()).collect::<Vec<_>>(), ["a..b", "10.0.0.1"]);
        let (all, bad) = NameList::parse("*");
        assert!(all.matches("anything") && bad.is_empty());
        assert!(!NameList::default().matches("anything"));
    }
}
