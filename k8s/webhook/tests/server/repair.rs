//! The own certificate while somebody else has his hands on Secret and caBundle: what a replica serves stays trusted,
//! and what nobody serves does not.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use webhook::{Certificates, Webhook};

use super::cluster::{Fake, set_bundle};
use super::own::{injects, ready, replica, rotation};
use super::{DAY, options, until};

/// A replica that looks at Secret and caBundle so often, and settles for twice that.
async fn replica_every(fake: &Fake, every: Duration) -> Webhook {
    let mut rotation = rotation(fake, DAY);
    rotation.settle = 2 * every;
    let mut options = options(Certificates::Own(Box::new(rotation)));
    options.every = every;
    Webhook::start(options).await.unwrap()
}

/// Admits at each replica until something is so; no admission fails.
async fn admit_until(fake: &Fake, replicas: &[&Webhook], mut done: impl FnMut() -> bool) -> usize {
    let (begin, mut calls) = (Instant::now(), 0);
    while !done() {
        for (number, webhook) in replicas.iter().enumerate() {
            assert!(injects(fake, webhook).await, "replica {number}, call {calls}, after {:?}", begin.elapsed());
        }
        calls += 1;
        assert!(begin.elapsed() < Duration::from_secs(30), "{calls} calls; {:?}", fake.bundles());
    }
    calls
}

fn authorities(fake: &Fake) -> Vec<String> {
    let bundle = fake.bundles()[0].clone().unwrap_or_default();
    bundle.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_secret_loses_no_admission_and_the_second_time_the_first_ca_is_gone() {
    let fake = Fake::start().await;
    let every = Duration::from_millis(200);
    let (first, second) = (replica_every(&fake, every).await, replica_every(&fake, every).await);
    let replicas = [&first, &second];
    for webhook in replicas {
        ready(webhook).await;
        until("it works", || injects(&fake, webhook)).await;
    }
    let original = authorities(&fake);
    assert_eq!(original.len(), 1);
    for round in [json!({}), json!({"tls.crt": "%", "tls.key": "", "ca.crt": "AAAA"})] {
        let before = fake.secret("tls.crt");
        fake.damage_secret(round);
        let is_new = || fake.secret("tls.crt").is_some_and(|new| new.contains("BEGIN") && Some(new) != before);
        admit_until(&fake, &replicas, is_new).await;
        // Longer than both need to serve it.
        let since = Instant::now();
        let calls = admit_until(&fake, &replicas, || since.elapsed() > 5 * every).await;
        println!("{calls} admissions at each replica, none lost");
    }
    // Nobody serves the first one any more.
    admit_until(&fake, &replicas, || !authorities(&fake).contains(&original[0])).await;
    assert_eq!(authorities(&fake).len(), 2);
    first.shut_down().await;
    second.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_that_finds_the_secret_empty_leaves_the_others_trusted() {
    let fake = Fake::start().await;
    let every = Duration::from_millis(500);
    let old = replica_every(&fake, every).await;
    ready(&old).await;
    until("it works", || injects(&fake, &old)).await;
    let original = authorities(&fake);
    fake.damage_secret(json!({}));
    // It may be the one that repairs the Secret, and knows of no CA before its own.
    let new = replica_every(&fake, every).await;
    let begin = Instant::now();
    admit_until(&fake, &[&old], || begin.elapsed() > 6 * every).await;
    admit_until(&fake, &[&old, &new], || begin.elapsed() > 8 * every).await;
    assert!(fake.secret("ca.crt").unwrap().contains(&original[0]), "the old one says what it served");
    old.shut_down().await;
    new.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_in_ca_bundle_only_goes_after_a_while() {
    let fake = Fake::start().await;
    let webhook = replica(&fake, DAY).await;
    ready(&webhook).await;
    let (ours, strangers) = (fake.secret("ca.crt").unwrap(), super::made().ca);
    until("it works", || injects(&fake, &webhook)).await;
    set_bundle(fake.objects.lock().unwrap().configuration.as_mut().unwrap(), &format!("{strangers}{ours}"));
    admit_until(&fake, &[&webhook], || fake.bundles()[0] == Some(ours.clone())).await;
    assert_eq!(fake.secret("ca.crt"), Some(ours), "nor does it come into the Secret");
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_replica_does_not_take_away_what_another_one_has_just_added() {
    let fake = Fake::start().await;
    // What another replica adds between this one's look at the configuration and its patch.
    let others = super::made().ca;
    let added = others.clone();
    let meanwhile = move |configuration: &mut Value| set_bundle(configuration, &added);
    fake.objects.lock().unwrap().meanwhile = Some(Box::new(meanwhile));
    let webhook = replica_every(&fake, Duration::from_secs(5)).await;
    ready(&webhook).await;
    let bundle = fake.bundles()[0].clone().unwrap();
    assert!(bundle.contains(&others) && bundle.contains(&fake.secret("ca.crt").unwrap()), "{bundle}");
    let patches = fake.objects.lock().unwrap().changes.iter().filter(|change| change.starts_with("PATCH")).count();
    assert_eq!(patches, 2, "the first is refused");
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_full_of_strangers_cas_does_not_cut_off_the_own_one() {
    let fake = Fake::start().await;
    let every = Duration::from_millis(200);
    let webhook = replica_every(&fake, every).await;
    ready(&webhook).await;
    until("it works", || injects(&fake, &webhook)).await;
    let (ours, certificate) = (fake.secret("ca.crt").unwrap(), fake.secret("tls.crt"));
    let strangers: String = (0..20).map(|_| super::made().ca).collect();
    let full = STANDARD.encode(&strangers);
    set_bundle(fake.objects.lock().unwrap().configuration.as_mut().unwrap(), &strangers);
    fake.objects.lock().unwrap().secret.as_mut().unwrap()["data"]["ca.crt"] = full.into();
    until("the own one is there again", || async { fake.secret("ca.crt").unwrap().starts_with(&ours) }).await;
    until("it is trusted", || async { fake.bundles()[0].as_ref().unwrap().contains(&ours) }).await;
    assert_eq!(fake.secret("tls.crt"), certificate, "nothing new had to be made");
    let begin = Instant::now();
    admit_until(&fake, &[&webhook], || begin.elapsed() > 5 * every).await;
    // Nor does a new one.
    let served = json!({"tls.crt": "%", "tls.key": "", "ca.crt": STANDARD.encode(strangers + &ours)});
    fake.damage_secret(served);
    let is_new = || fake.secret("tls.crt").is_some_and(|new| new.contains("BEGIN") && Some(new) != certificate);
    admit_until(&fake, &[&webhook], is_new).await;
    let begin = Instant::now();
    admit_until(&fake, &[&webhook], || begin.elapsed() > 5 * every).await;
    webhook.shut_down().await;
}
