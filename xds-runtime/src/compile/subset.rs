//! Subsets: which endpoints of a cluster a route means.
//!
//! What a route asks for is known when the mesh is compiled, so a cluster and a request become a cluster of the image
//! with some of the endpoints, whose slots are those of the whole cluster: a subset has turns of its own, and shares
//! connections, limits and ejections.

use super::Input;
use crate::resource::{
    Cluster, Discovery, Endpoint, Fallback, LoadAssignment, Metadata, MetadataValue, Selector, SelectorFallback,
    Subsets, in_words,
};

/// Some of a cluster's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of them.
    #[default]
    All,
    /// Those that carry these values.
    Carrying {
        /// The values.
        metadata: Metadata,
        /// Only the first of them.
        single_host: bool,
    },
    /// None.
    Nothing,
}

/// A selection, and whether any endpoint is to be taken when it has no usable one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    pub selection: Selection,
    pub else_any: bool,
}

impl Selection {
    /// What the cluster's name is followed by.
    pub fn suffix(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Carrying { metadata, single_host: false } => format!(" [{}]", in_words(metadata)),
            Self::Carrying { metadata, single_host: true } => format!(" [one of {}]", in_words(metadata)),
            Self::Nothing => " [no subset]".to_owned(),
        }
    }

    /// Whether an endpoint is in it.
    pub fn takes(&self, endpoint: &Endpoint, list_as_any: bool) -> bool {
        match self {
            Self::All => true,
            Self::Carrying { metadata, .. } => carries(endpoint, metadata, list_as_any),
            Self::Nothing => false,
        }
    }
}

/// What a route that asks for `asked` means (Envoy's subset load balancer). A cluster whose endpoints are not known
/// is taken whole: it has none yet.
pub(super) fn select(input: &Input<'_>, cluster: &Cluster, subsets: &Subsets, asked: &Metadata) -> Selected {
    let Some(assignment) = assignment(input, cluster) else { return Selected::default() };
    let mut asked = asked.clone();
    if subsets.allow_redundant_keys {
        without_redundant_keys(&mut asked, &subsets.selectors);
    }
    // A selector that is asked again is asked for fewer keys.
    while let Some(selector) = subsets.selectors.iter().find(|selector| selector.keys.iter().eq(asked.keys())) {
        let exists = |endpoint: &Endpoint| carries(endpoint, &asked, subsets.list_as_any);
        if assignment.localities.iter().flat_map(|group| &group.endpoints).any(exists) {
            let selection = Selection::Carrying { metadata: asked, single_host: selector.single_host };
            return Selected { selection, else_any: false };
        }
        match &selector.fallback {
            None => break,
            Some(SelectorFallback::To(fallback)) => {
                return Selected { selection: fallen_back(*fallback, subsets), else_any: false };
            }
            Some(SelectorFallback::Keys(keys)) => asked.retain(|key, _| keys.contains(key)),
        }
    }
    Selected {
        selection: fallen_back(subsets.fallback, subsets),
        else_any: subsets.panic_mode_any && subsets.fallback == Fallback::DefaultSubset,
    }
}

fn fallen_back(fallback: Fallback, subsets: &Subsets) -> Selection {
    match fallback {
        Fallback::Nothing => Selection::Nothing,
        Fallback::AnyEndpoint => Selection::All,
        Fallback::DefaultSubset => Selection::Carrying { metadata: subsets.default_subset.clone(), single_host: false },
    }
}

/// Keeps the keys of the largest selector that has no other.
fn without_redundant_keys(asked: &mut Metadata, selectors: &[Selector]) {
    let fits = |selector: &&Selector| selector.keys.iter().all(|key| asked.contains_key(key));
    let Some(largest) = selectors.iter().filter(fits).reduce(|a, b| if b.keys.len() > a.keys.len() { b } else { a })
    else {
        return;
    };
    asked.retain(|key, _| largest.keys.contains(key));
}

fn carries(endpoint: &Endpoint, asked: &Metadata, list_as_any: bool) -> bool {
    let carried = endpoint.details.as_ref().map(|details| &details.metadata);
    asked.iter().all(|(key, value)| match carried.and_then(|carried| carried.get(key)) {
        Some(MetadataValue::List(values)) if list_as_any => values.contains(value),
        found => found == Some(value),
    })
}

fn assignment<'a>(input: &Input<'a>, cluster: &'a Cluster) -> Option<&'a LoadAssignment> {
    match &cluster.discovery {
        Discovery::Eds(name) => input.endpoints.get(name),
        Discovery::Static(inline) | Discovery::StrictDns(inline, _) | Discovery::LogicalDns(inline, _) => Some(inline),
        Discovery::OriginalDst | Discovery::Aggregate(_) | Discovery::Unsupported(_) => None,
    }
}
