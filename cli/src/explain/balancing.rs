//! A cluster's balancing in words.

use xds_runtime::image::{Balancing, PolicyView, SlowStart};

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
        PolicyView::Pass(..) => return None,
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
    slow_start.into_iter().collect()
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
        let told = settings(&Balancing { slow_start: Some(slow_start), ..Balancing::default() });
        assert_eq!(told, ["slow start over 60000 ms, aggression 1.5, from 10.5 percent of the weight"]);
    }
}
