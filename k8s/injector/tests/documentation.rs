//! docs/kubernetes.md says what the code does: its table of settings and its examples are made by it. So are the
//! settings that the chart's schema knows. `LDMESH_GOLDEN=update` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use injector::stream::inject_stream;
use injector::{SETTINGS, Scope, Setting, Settings};
use serde_json::{Value, json};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubernetes.md")
}

fn schema_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chart/values.schema.json")
}

#[track_caller]
fn check_golden(path: &Path, expected: &str) {
    if std::env::var_os("LDMESH_GOLDEN").is_some_and(|value| value == "update") {
        fs::write(path, expected).unwrap();
    } else {
        let is_same = fs::read_to_string(path).unwrap() == expected;
        assert!(is_same, "{} is stale: run with LDMESH_GOLDEN=update", path.display());
    }
}

/// The text of the fenced block behind a mark.
fn block<'a>(document: &'a str, mark: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("<!-- {mark} -->\n```")).expect(mark);
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split_once("```").unwrap().0
}

fn table() -> String {
    let mut table = "| setting | values | default | for | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for setting in SETTINGS {
        let scope = match setting.scope {
            Scope::Pod => "pod",
            Scope::Any => "pod, container",
            Scope::Container => "container",
        };
        let row = [&format!("`{}`", setting.name), setting.values, setting.default, scope, setting.meaning];
        table.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    table
}

/// The document as the code would have it.
fn expected(document: &str) -> String {
    let (before, rest) = document.split_once("<!-- settings -->\n").unwrap();
    let (_, after) = rest.split_once("\n`traffic.sidecar.istio.io/").unwrap();
    let with_table = format!("{before}<!-- settings -->\n{}\n`traffic.sidecar.istio.io/{after}", table());
    let mut settings = Settings::default();
    settings.set("xds", "http://istiod.istio-system.svc:15010").unwrap();
    let injected = inject_stream(block(document, "before"), "default", &settings).unwrap();
    assert_eq!(injected.notes, []);
    let old = format!("<!-- after -->\n```yaml\n{}```", block(document, "after"));
    with_table.replace(&old, &format!("<!-- after -->\n```yaml\n{}```", injected.text))
}

#[test]
fn the_table_of_settings_and_the_example_are_the_codes() {
    let document = fs::read_to_string(path()).unwrap();
    check_golden(&path(), &expected(&document));
}

/// The words that a setting takes, where it takes nothing else.
fn words(setting: &Setting) -> Vec<&'static str> {
    let words: Vec<&str> = setting.values.split(", ").collect();
    let word = |text: &&'static str| text.strip_prefix('`')?.strip_suffix('`').filter(|word| !word.contains(':'));
    words.iter().map(word).collect::<Option<_>>().unwrap_or_default()
}

/// What the chart's schema says of a setting.
fn schema_of(setting: &Setting) -> Value {
    let words = words(setting);
    if words.is_empty() {
        return json!({"type": ["string", "number"]});
    }
    let mut values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    // As helm reads them, unless they are quoted.
    let boolean = |yes: &str, no: &str| {
        words.contains(&yes).then_some(true).into_iter().chain(words.contains(&no).then_some(false))
    };
    values.extend(boolean("true", "false").chain(boolean("on", "off")).map(Value::from));
    json!({ "enum": values })
}

/// The chart's schema as the code would have it.
fn expected_schema(schema: &str) -> String {
    let (before, rest) = schema.split_once("    \"settings\": {\n").unwrap();
    let (_, after) = rest.split_once("    \"failurePolicy\"").unwrap();
    let of_a_file = SETTINGS.iter().filter(|setting| setting.scope != Scope::Container);
    let rows: Vec<String> =
        of_a_file.map(|setting| format!("        {}: {}", json!(setting.name), schema_of(setting))).collect();
    format!(
        "{before}    \"settings\": {{\n      \"$comment\": \"Made from injector::SETTINGS by its tests.\",\n      \
         \"type\": \"object\",\n      \"additionalProperties\": false,\n      \"properties\": {{\n{}\n      }}\n    \
         }},\n    \"failurePolicy\"{after}",
        rows.join(",\n")
    )
}

#[test]
fn the_charts_schema_knows_every_setting_and_its_words() {
    let schema = fs::read_to_string(schema_path()).unwrap();
    check_golden(&schema_path(), &expected_schema(&schema));
}

#[test]
fn the_refusal_that_the_document_shows_is_what_is_said() {
    let document = fs::read_to_string(path()).unwrap();
    let pod =
        block(&document, "before").replace("  name: shell #", "  annotations: {ldmesh.io/mode: loud}\n  name: shell #");
    let error = inject_stream(&pod, "default", &Settings::default()).unwrap_err();
    assert_eq!(block(&document, "refused"), format!("ldmesh: shop.yaml: {error}\n"));
}

#[test]
fn every_setting_takes_the_words_and_the_default_that_it_documents() {
    for setting in SETTINGS.iter().filter(|setting| setting.scope != Scope::Container) {
        for word in words(setting) {
            assert_eq!(Settings::default().set(setting.name, word), Ok(()), "{}: {word}", setting.name);
        }
        if let Some(default) = setting.default.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
            assert_eq!(Settings::default().set(setting.name, default), Ok(()), "{}: {default}", setting.name);
        }
    }
}
