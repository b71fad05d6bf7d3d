//! What a plain scalar means to Kubernetes, whose parser is one of YAML 1.1, and how text is written so that no
//! parser takes it for something else.

use serde_json::{Number, Value};

/// A plain scalar's value. `0644` is octal; `yes` is a boolean.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return false.into(),
        _ => {}
    }
    number(text).map_or_else(|| Value::from(text), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = digits.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        plain.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    let octal = || plain.strip_prefix('0').filter(|rest| !rest.is_empty()).and_then(|d| u64::from_str_radix(d, 8).ok());
    let whole = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(octal);
    let whole = whole.or_else(|| plain.bytes().all(|b| b.is_ascii_digit()).then(|| plain.parse().ok()).flatten());
    if let Some(whole) = whole {
        return match negative {
            false => Some(whole.into()),
            true => i64::try_from(whole).ok().and_then(i64::checked_neg).map(Number::from),
        };
    }
    let of_float = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let float: f64 = plain.chars().all(of_float).then(|| plain.parse().ok()).flatten()?;
    Number::from_f64(if negative { -float } else { float })
}

/// A scalar in block style; text is plain only where that is beyond doubt.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let inner = |c: char| c.is_ascii_alphanumeric() || "_./-:@%*".contains(c);
    let quantity = text.bytes().all(|b| b.is_ascii_alphanumeric()) && resolve(text).is_string();
    (quantity || text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/'))
        && text.chars().all(inner)
        && !text.ends_with(':')
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubernetes_takes_them_for() {
        for (text, expected) in [
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("089", json!(89)),
            ("1_000", json!(1000)),
            ("-5", json!(-5)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("", json!(null)),
            ("~", json!(null)),
            ("y", json!("y")),
            ("1.2.3", json!("1.2.3")),
            ("64Mi", json!("64Mi")),
            ("100m", json!("100m")),
            ("-", json!("-")),
            ("10.0.0.0/8", json!("10.0.0.0/8")),
            (".nan", json!(".nan")),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn text_is_quoted_where_a_parser_could_take_it_for_something_else() {
        for text in
            ["yes", "Off", "null", "64", "0644", "1e3", "a: b", "a #b", "", "-x", "a:", "*a", "a\nb", "{a}", "é"]
        {
            assert_eq!(write(&json!(text)), json!(text).to_string(), "{text}");
        }
        for text in ["app", "64Mi", "/ldmesh-files/libldmesh.so", "a.so:/b.so", "https://istiod.istio-system.svc:15012"]
        {
            assert_eq!(write(&json!(text)), text);
        }
    }
}
