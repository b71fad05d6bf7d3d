//! A cluster's balancing in words.

use xds_runtime::image::{Balancing, PolicyView, SlowStart, ZoneAware};

/// The policy's name and parameters; `None` where there is none.
pub(super) fn policy(policy: PolicyView) -> Option<String> {
    Some(match policy {
        PolicyView::RoundRobin => "round robin".into(),
        PolicyView::Random => "random".into(),
        PolicyView::RingHash => "ring hash".into(),
        PolicyView::Maglev => "Maglev".into(),
        PolicyView::LeastRequest { choice_count, bias_thousandths } => {
            format!("least request of {choice_count}, bias {}", thousandths(bias_thousandths))
        }
        PolicyView::Aggregate { count, .. } => format!("that of its {count} clusters, one after the other"),
        PolicyView::Pass(..) | PolicyView::Refuse => return None,
    })
}

/// What it asks for beside the policy, a line each.
pub(super) fn settings(balancing: &Balancing) -> Vec<String> {
    let slow_start = balancing.slow_start.map(|SlowStart { window_ms, aggression_thousandths, min_weight }| {
        format!(
            "slow start over {window_ms} ms, aggression {}, from {} percent of the weight",
            thousandths(aggression_thousandths),
            f64::from(min_weight) / 100.0
        )
    });
    let zone_aware = balancing.zone_aware.map(|zones| {
        let ZoneAware { own, routing_enabled, min_cluster_size, by_weight, force_local, .. } = zones;
        let own = if own.is_some() { "" } else { ", no endpoint in the node's" };
        let basis = if by_weight { ", by weight" } else { "" };
        let forced = force_local.map_or(String::new(), |least| format!(", all of it local from {least} endpoints on"));
        format!("zones for {routing_enabled} percent, from {min_cluster_size} endpoints on{basis}{own}{forced}")
    });
    let scan = balancing.full_scan.then(|| "every endpoint is looked at".to_owned());
    let bounded = balancing.hash_balance_factor.map(|percent| format!("at most {percent} percent of its share each"));
    let panic = balancing.fail_on_panic.then(|| "no endpoint in panic".to_owned());
    let otherwise = balancing.otherwise.map(|_| "any endpoint when none of these is usable".to_owned());
    slow_start.into_iter().chain(zone_aware).chain(scan).chain(bounded).chain(panic).chain(otherwise).collect()
}

fn thousandths(number: u32) -> f64 {
    f64::from(number) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_with_their_units() {
        assert_eq!(settings(&Balancing::default()), Vec::<String>::new());
        let slow_start = SlowStart { window_ms: 60_000, aggression_thousandths: 1500, min_weight: 1050 };
        let zones = ZoneAware {
            local: 1,
            own: None,
            routing_enabled: 90,
            min_cluster_size: 6,
            by_weight: true,
            force_local: Some(2),
        };
        let told = settings(&Balancing {
            slow_start: Some(slow_start),
            zone_aware: Some(zones),
            full_scan: true,
            hash_balance_factor: Some(125),
            fail_on_panic: true,
            otherwise: Some(3),
        });
        let expected = [
            "slow start over 60000 ms, aggression 1.5, from 10.5 percent of the weight",
            "zones for 90 percent, from 6 endpoints on, by weight, no endpoint in the node's, all of it local from 2 \
             endpoints on",
            "every endpoint is looked at",
            "at most 125 percent of its share each",
            "no endpoint in panic",
            "any endpoint when none of these is usable",
        ];
        assert_eq!(told, expected);
    }
}
