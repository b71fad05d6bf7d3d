//! What a route depends on, in words, for `status` and `explain`.

use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::resource::invalid::Invalid;
use crate::resource::wire::{PathSpecifier, RouteMatch};

/// `None` when the rule matches every request.
pub(super) fn in_words(rule: &RouteMatch) -> Result<Option<String>, Invalid> {
    let mut words = Vec::new();
    words.extend(path(rule.path_specifier.as_ref().ok_or_else(|| Invalid::missing("path_specifier"))?));
    words.extend(rule.headers.iter().map(header));
    words.extend(rule.query_parameters.iter().map(|q| format!("query {}", q.name)));
    words.extend(rule.cookies.iter().map(|c| format!("cookie {}", c.name)));
    if rule.grpc.is_some() {
        words.push("gRPC request".to_owned());
    }
    if rule.tls_context.is_some() {
        words.push("client certificate".to_owned());
    }
    if !rule.dynamic_metadata.is_empty() {
        words.push("dynamic metadata".to_owned());
    }
    if !rule.filter_state.is_empty() {
        words.push("filter state".to_owned());
    }
    if let Some(percent) = rule.runtime_fraction.as_ref().and_then(|f| f.default_value) {
        let of = match DenominatorType::try_from(percent.denominator) {
            Ok(DenominatorType::Hundred) => 100,
            Ok(DenominatorType::TenThousand) => 10_000,
            Ok(DenominatorType::Million) => 1_000_000,
            Err(_) => {
                return Err(Invalid::new("runtime_fraction.default_value.denominator", "not defined"));
            }
        };
        if percent.numerator < of {
            words.push(format!("{} of {of} requests", percent.numerator));
        }
    }
    Ok(if words.is_empty() { None } else { Some(words.join(", ")) })
}

fn path(path: &PathSpecifier) -> Option<String> {
    match path {
        // Every path begins with a slash.
        PathSpecifier::Prefix(prefix) if prefix.is_empty() || prefix == "/" => None,
        PathSpecifier::Prefix(prefix) => Some(format!("path prefix {prefix}")),
        PathSpecifier::Path(path) => Some(format!("path {path}")),
        PathSpecifier::SafeRegex(regex) if regex.regex == ".*" => None,
        PathSpecifier::SafeRegex(regex) => Some(format!("path regex {}", regex.regex)),
        PathSpecifier::ConnectMatcher(_) => Some("method CONNECT".to_owned()),
        PathSpecifier::PathSeparatedPrefix(prefix) => Some(format!("path under {prefix}")),
        PathSpecifier::PathMatchPolicy(policy) => Some(format!("path policy {}", policy.name)),
    }
}

fn header(header: &HeaderMatcher) -> String {
    let name = &header.name;
    let not = if header.invert_match { "not " } else { "" };
    #[allow(deprecated, reason = "control planes still send the older forms")]
    let how = match &header.header_match_specifier {
        Some(HeaderMatchSpecifier::ExactMatch(value)) => format!(" = {value}"),
        Some(HeaderMatchSpecifier::PrefixMatch(value)) => format!(" begins with {value}"),
        Some(HeaderMatchSpecifier::SuffixMatch(value)) => format!(" ends with {value}"),
        Some(HeaderMatchSpecifier::ContainsMatch(value)) => format!(" contains {value}"),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => format!(" matches {}", regex.regex),
        Some(HeaderMatchSpecifier::RangeMatch(range)) => {
            format!(" in {}..{}", range.start, range.end)
        }
        Some(HeaderMatchSpecifier::PresentMatch(false)) => " absent".to_owned(),
        Some(HeaderMatchSpecifier::PresentMatch(true)) | None => String::new(),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => match &matcher.match_pattern {
            Some(MatchPattern::Exact(value)) => format!(" = {value}"),
            Some(MatchPattern::Prefix(value)) => format!(" begins with {value}"),
            Some(MatchPattern::Suffix(value)) => format!(" ends with {value}"),
            Some(MatchPattern::Contains(value)) => format!(" contains {value}"),
            Some(MatchPattern::SafeRegex(regex)) => format!(" matches {}", regex.regex),
            Some(MatchPattern::Custom(_)) | None => String::new(),
        },
    };
    format!("{not}header {name}{how}")
}
