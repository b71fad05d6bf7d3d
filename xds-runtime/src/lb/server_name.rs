//! Which action of a destination with TLS server names a connection takes.

use crate::image::{ActionView, PassReason, ServerNamesView, Torn, View};

/// Shows each name (lower case, without final dot) that the connection may ask for; asked only where it decides.
pub type ServerNames<'a> = dyn Fn(&mut dyn FnMut(&[u8])) + 'a;

/// Nobody knows a name.
pub const UNNAMED: &ServerNames<'static> = &|_| {};

/// The action that all names lead to; without one, or where they lead apart, the name must be read from the bytes.
pub(super) fn action(view: &View<'_>, patterns: &ServerNamesView, names: &ServerNames<'_>) -> Result<ActionView, Torn> {
    const NEEDS_BYTES: ActionView = ActionView::Pass(PassReason::NeedsBytes);
    let mut decided: Result<Option<ActionView>, Torn> = Ok(None);
    names(&mut |name| {
        let Ok(former) = decided else { return };
        decided = view.by_server_name(patterns, name).map(|found| match (former, found.unwrap_or(NEEDS_BYTES)) {
            (Some(former), found) if former != found => Some(NEEDS_BYTES),
            (_, found) => Some(found),
        });
    });
    Ok(decided?.unwrap_or(NEEDS_BYTES))
}
