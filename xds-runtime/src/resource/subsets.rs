//! Subsets of a cluster's endpoints, by their metadata: `lb_subset_config`, and the policy of that name.

use std::collections::BTreeSet;

use super::invalid::{Invalid, Under};
use super::metadata::{Metadata, fields};
use super::wire::Subset;

/// How what a route asks for leads to endpoints of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Subsets {
    /// Where no subset is found, and its selector does not say.
    pub fallback: Fallback,
    /// What the endpoints of the default subset carry.
    pub default_subset: Metadata,
    /// The sets of keys by which subsets are made; at least one.
    pub selectors: Vec<Selector>,
    /// Locality weights hold within subsets.
    pub locality_weight_aware: bool,
    /// They are scaled with the share of a locality's endpoints that is in the subset.
    pub scale_locality_weight: bool,
    /// Where the fallback has no usable endpoint either, any is taken.
    pub panic_mode_any: bool,
    /// An endpoint with a list matches each of its values.
    pub list_as_any: bool,
    /// Keys for which there is no selector may be asked for beside those of one.
    pub allow_redundant_keys: bool,
}

/// What a cluster falls back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// No endpoint.
    Nothing,
    /// All of them.
    AnyEndpoint,
    /// The default subset.
    DefaultSubset,
}

/// Keys: endpoints that have all of them are in the subset of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The keys.
    pub keys: BTreeSet<String>,
    /// What is taken where there is no such subset; `None` = what the cluster says.
    pub fallback: Option<SelectorFallback>,
    /// A subset is one endpoint, the first of those that match.
    pub single_host: bool,
}

/// What a selector falls back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorFallback {
    /// As a cluster may.
    To(Fallback),
    /// Another look, for these of the keys only.
    Keys(BTreeSet<String>),
}

/// The cluster's own message; `None` when it has no selector, which turns subsets off (Envoy).
pub(super) fn of_cluster(wire: Subset, unsupported: &mut Vec<String>) -> Result<Option<Subsets>, Invalid> {
    if wire.metadata_fallback_policy != 0 {
        unsupported.push("lb_subset_config.metadata_fallback_policy".to_owned());
    }
    convert(Subset { allow_redundant_keys: false, ..wire })
}

/// The extension's message.
pub(super) fn of_extension(wire: Subset, unsupported: &mut Vec<String>) -> Result<Option<Subsets>, Invalid> {
    if wire.metadata_fallback_policy != 0 {
        unsupported.push("subset.metadata_fallback_policy".to_owned());
    }
    convert(wire)
}

fn convert(wire: Subset) -> Result<Option<Subsets>, Invalid> {
    let fallback = match wire.fallback_policy {
        0 => Fallback::Nothing,
        1 => Fallback::AnyEndpoint,
        2 => Fallback::DefaultSubset,
        other => return Err(Invalid::new("fallback_policy", format!("{other} is not defined"))),
    };
    let mut selectors = Vec::with_capacity(wire.subset_selectors.len());
    for (i, selector) in wire.subset_selectors.into_iter().enumerate() {
        let keys: BTreeSet<String> = selector.keys.into_iter().collect();
        let fallback_keys = selector.fallback_keys_subset.into_iter().collect();
        let fallback =
            selector_fallback(selector.fallback_policy, fallback_keys, &keys).under_at("subset_selectors", i)?;
        selectors.push(Selector { keys, fallback, single_host: selector.single_host_per_subset });
    }
    Ok((!selectors.is_empty()).then_some(Subsets {
        fallback,
        default_subset: wire.default_subset.map(fields).unwrap_or_default(),
        selectors,
        locality_weight_aware: wire.locality_weight_aware,
        scale_locality_weight: wire.scale_locality_weight,
        panic_mode_any: wire.panic_mode_any,
        list_as_any: wire.list_as_any,
        allow_redundant_keys: wire.allow_redundant_keys,
    }))
}

/// Envoy: `fallback_keys_subset` belongs to KEYS_SUBSET, is some of the selector's keys, and not all of them.
fn selector_fallback(
    wire: i32,
    fallback_keys: BTreeSet<String>,
    keys: &BTreeSet<String>,
) -> Result<Option<SelectorFallback>, Invalid> {
    let field = "fallback_keys_subset";
    let to = match wire {
        0 => None,
        1 => Some(SelectorFallback::To(Fallback::Nothing)),
        2 => Some(SelectorFallback::To(Fallback::AnyEndpoint)),
        3 => Some(SelectorFallback::To(Fallback::DefaultSubset)),
        4 if fallback_keys.is_empty() => return Err(Invalid::missing(field)),
        4 if !fallback_keys.is_subset(keys) => return Err(Invalid::new(field, "has a key that is not in keys")),
        4 if fallback_keys.len() == keys.len() => return Err(Invalid::new(field, "is all of keys")),
        4 => return Ok(Some(SelectorFallback::Keys(fallback_keys))),
        other => return Err(Invalid::new("fallback_policy", format!("{other} is not defined"))),
    };
    if fallback_keys.is_empty() { Ok(to) } else { Err(Invalid::new(field, "needs fallback_policy KEYS_SUBSET")) }
}
