//! No input makes the control plane panic.

use control_plane::{Proxy, Snapshot};
use proptest::prelude::*;

/// Pieces that are likely to get past the parser, and to be wrong behind it.
fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("null".to_owned()),
        Just("None".to_owned()),
        Just("greeter".to_owned()),
        Just("'*'".to_owned()),
        Just("10.0.0.0/0".to_owned()),
        Just("240.240.0.1".to_owned()),
        Just("fd00::1".to_owned()),
        Just("a.b.svc.cluster.local".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u16>().prop_map(|number| number.to_string()),
        "[a-z0-9./:*~ -]{0,12}".prop_map(|text| format!("'{text}'")),
    ]
}

fn service() -> impl Strategy<Value = String> {
    (scalar(), scalar(), scalar(), scalar(), scalar()).prop_map(|(name, ip, port_name, port, target)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {ip}\n  \
             ports: [{{name: {port_name}, port: {port}, targetPort: {target}}}]\n"
        )
    })
}

fn entry() -> impl Strategy<Value = String> {
    let resolution = prop_oneof![Just("STATIC"), Just("DNS"), Just("DNS_ROUND_ROBIN"), Just("NONE")];
    (scalar(), scalar(), scalar(), scalar(), resolution).prop_map(|(host, address, port, weight, resolution)| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{}}\nspec:\n  hosts: [{host}]\n  \
             addresses: [{address}]\n  resolution: {resolution}\n  ports: [{{number: {port}, name: x}}]\n  \
             endpoints: [{{address: {address}, weight: {weight}, locality: a/b}}, {{address: 10.0.0.1}}]\n"
        )
    })
}

fn rule() -> impl Strategy<Value = String> {
    (scalar(), scalar(), scalar(), scalar()).prop_map(|(host, pattern, number, time)| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{}}\nspec:\n  host: {host}\n  \
             trafficPolicy:\n    outlierDetection: {{interval: {time}, maxEjectionPercent: {number}}}\n    \
             loadBalancer: {{localityLbSetting: {{distribute: [{{from: '*', to: {{{pattern}: {number}}}}}]}}}}\n"
        )
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn odd_values_in_known_kinds_are_rendered_or_refused(
        documents in prop::collection::vec(prop_oneof![service(), entry(), rule()], 0..6),
    ) {
        check(&documents.join("---\n"));
    }
}

fn check(text: &str) {
    match Snapshot::from_yaml(text) {
        Ok(snapshot) => {
            let proxy = Proxy::default().in_locality("r", "z", "").with_auto_allocated_addresses();
            assert!(!snapshot.resources(&proxy).is_empty());
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}
