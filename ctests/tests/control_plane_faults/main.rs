//! A control plane (go-control-plane's cache and server) that breaks the protocol, says too much or too little, and
//! loses its connections: programs go on with the last good endpoints, and with the new ones afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;
mod messages;
mod wire;

/// A test for each variant.
macro_rules! in_both_variants {
    ($($name:ident => $module:ident::$check:ident;)*) => {
        mod delta {
            $(#[test] fn $name() { super::$module::$check(ctests::Variant::Delta); })*
        }
        mod state_of_the_world {
            $(#[test] fn $name() { super::$module::$check(ctests::Variant::Sotw); })*
        }
    };
}

in_both_variants! {
    responses_with_stale_nonces_are_answered_once_each => messages::stale_nonces;
    a_subscription_that_crossed_a_response_is_not_lost => messages::crossed_subscription;
    types_in_any_order_make_the_same_mesh => messages::any_order;
    a_new_stream_that_says_endpoints_first_changes_only_those => messages::endpoints_first;
    what_is_named_and_missing_is_used_once_it_comes => messages::missing_resources;
    of_two_resources_of_one_name_the_first_applies_and_the_other_is_nacked => messages::duplicate_names;
    empty_responses_take_nothing_away_that_is_not_a_full_list => messages::empty_responses;
    fifty_megabytes_in_one_message_are_taken_in_bounded_memory => wire::fifty_megabytes;
    a_message_that_trickles_holds_up_nobody => wire::slow_drip;
    a_reset_in_the_middle_of_a_frame_applies_nothing => wire::mid_frame_reset;
    a_storm_of_goaways_is_followed_at_a_bounded_rate => wire::goaway_storm;
}
