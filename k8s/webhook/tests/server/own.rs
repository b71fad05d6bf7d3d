//! A certificate of the webhook's own CA: made, published, shared by replicas, rotated, repaired.

use std::time::Duration;

use serde_json::json;
use webhook::{Certificates, Rotation, Webhook};

use super::client::{Connection, get, tls};
use super::cluster::{Fake, configuration};
use super::{DAY, metric, options, until};

pub fn rotation(fake: &Fake, lifetime: Duration) -> Rotation {
    Rotation {
        cluster: fake.cluster(),
        namespace: "mesh".into(),
        service: "ldmesh-webhook".into(),
        secret: "ldmesh-webhook-certificates".into(),
        configuration: "ldmesh".into(),
        lifetime,
        settle: Duration::from_millis(100),
    }
}

pub async fn replica(fake: &Fake, lifetime: Duration) -> Webhook {
    Webhook::start(options(Certificates::Own(Box::new(rotation(fake, lifetime))))).await.unwrap()
}

pub async fn ready(webhook: &Webhook) {
    until("it is ready", || async { get(webhook.health_address(), "/readyz").await.0 == 200 }).await;
}

/// As the API server does it, with the caBundle of the first webhook.
pub async fn injects(fake: &Fake, webhook: &Webhook) -> bool {
    let Some(bundle) = fake.bundles()[0].clone() else { return false };
    match Connection::open(webhook.address(), &bundle).await {
        Ok(mut connection) => connection.inject().await.unwrap(),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_one_certificate_and_each_webhook_of_ours_gets_its_ca() {
    let fake = Fake::start().await;
    let (first, second) = tokio::join!(replica(&fake, DAY), replica(&fake, DAY));
    for webhook in [&first, &second] {
        ready(webhook).await;
        until("the API server's call works", || injects(&fake, webhook)).await;
    }
    let bundle = fake.secret("ca.crt");
    assert_eq!(fake.bundles(), [bundle.clone(), None, bundle.clone()]);
    assert_eq!(bundle.unwrap().matches("BEGIN").count(), 1);
    let made = async |webhook| metric(webhook, "ldmesh_webhook_rotations_total 1").await;
    assert!(made(&first).await != made(&second).await, "one of the two makes it");
    assert_eq!(fake.objects.lock().unwrap().secret.as_ref().unwrap()["type"], "kubernetes.io/tls");
    first.shut_down().await;
    second.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_loses_no_admission_and_old_cas_go_when_they_are_over() {
    let fake = Fake::start().await;
    let lifetime = Duration::from_secs(6);
    let (first, second) = (replica(&fake, lifetime).await, replica(&fake, lifetime).await);
    ready(&first).await;
    ready(&second).await;
    until("the first works", || injects(&fake, &first)).await;
    until("the second works", || injects(&fake, &second)).await;
    let begin = std::time::Instant::now();
    let (mut seen, mut calls) = (std::collections::BTreeSet::new(), 0);
    while seen.len() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        for webhook in [&first, &second] {
            assert!(injects(&fake, webhook).await, "an admission was lost after {calls} calls, {:?}", begin.elapsed());
            calls += 1;
        }
        seen.insert(fake.secret("tls.crt"));
    }
    let bundle = fake.bundles()[0].clone().unwrap();
    assert!((1..=2).contains(&bundle.matches("BEGIN").count()), "{bundle}");
    println!("{calls} admissions over {} rotations, none lost", seen.len() - 1);
    first.shut_down().await;
    second.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_break_is_repaired() {
    let fake = Fake::start().await;
    // The chart may make the Secret, so that its uninstallation takes it away.
    let metadata = json!({"name": "x", "resourceVersion": "0", "labels": {"a": "b"}});
    fake.objects.lock().unwrap().secret = Some(json!({"metadata": metadata, "type": "Opaque"}));
    let webhook = replica(&fake, DAY).await;
    ready(&webhook).await;
    until("it works", || injects(&fake, &webhook)).await;
    assert_eq!(fake.objects.lock().unwrap().secret.as_ref().unwrap()["metadata"]["labels"], json!({"a": "b"}));
    // An upgrade of the chart empties caBundle.
    fake.objects.lock().unwrap().configuration = Some(configuration());
    until("it works again", || injects(&fake, &webhook)).await;
    for broken in [json!({}), json!({"tls.crt": "%", "tls.key": "", "ca.crt": "AAAA"})] {
        let old = fake.secret("tls.crt");
        fake.damage_secret(broken);
        until("there is another certificate", || async {
            fake.secret("tls.crt").is_some_and(|new| new.contains("BEGIN") && Some(new) != old)
        })
        .await;
        until("it is served", || async { tls(webhook.address(), &fake.newest_ca()).await.is_ok() }).await;
        until("it works", || injects(&fake, &webhook)).await;
    }
    // The CA of what is served is known still, so that nothing new has to be made.
    let certificate = fake.secret("tls.crt");
    fake.objects.lock().unwrap().secret.as_mut().unwrap()["data"]["ca.crt"] = "".into();
    until("the CA is back", || async { fake.secret("ca.crt").unwrap().contains("BEGIN") }).await;
    assert_eq!(fake.secret("tls.crt"), certificate);
    assert!(injects(&fake, &webhook).await);
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_it_waits_and_then_it_serves() {
    let fake = Fake::start().await;
    fake.objects.lock().unwrap().refuses = Some(403);
    let webhook = replica(&fake, DAY).await;
    until("it is counted", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 1")).await;
    assert_eq!(get(webhook.health_address(), "/readyz").await, (503, "there is no certificate yet\n".to_owned()));
    assert_eq!(get(webhook.health_address(), "/healthz").await.0, 200);
    let configuration = {
        let mut objects = fake.objects.lock().unwrap();
        objects.refuses = None;
        objects.configuration.take()
    };
    // Without the configuration, nobody trusts it, so the Service must not lead there.
    until("there is a certificate", || async {
        let untrusted = (503, "the API server does not know yet whom to trust\n".to_owned());
        get(webhook.health_address(), "/readyz").await == untrusted
    })
    .await;
    assert!(metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 1").await);
    fake.objects.lock().unwrap().configuration = configuration;
    ready(&webhook).await;
    until("it works", || injects(&fake, &webhook)).await;
    until("all is well", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 0")).await;
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_holds_is_served_even_if_no_new_one_can_be_written() {
    let fake = Fake::start().await;
    // Made long ago: it has a quarter of its time left.
    let rotation = rotation(&fake, DAY);
    let names = [super::NAME.to_owned()];
    let old = webhook::make(&names, std::time::SystemTime::now() - DAY * 3 / 4, DAY).unwrap();
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let data = json!({"tls.crt": encode(&old.certificate), "tls.key": encode(&old.key), "ca.crt": encode(&old.ca)});
    {
        let mut objects = fake.objects.lock().unwrap();
        objects.secret = Some(json!({"metadata": {"name": "x", "resourceVersion": "0"}, "data": data}));
        objects.refuses_secret = true;
    }
    let webhook = Webhook::start(options(Certificates::Own(Box::new(rotation)))).await.unwrap();
    ready(&webhook).await;
    until("it works", || injects(&fake, &webhook)).await;
    assert!(metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 1").await);
    assert_eq!(fake.secret("tls.crt"), Some(old.certificate.clone()));
    fake.objects.lock().unwrap().refuses_secret = false;
    until("there is a new one", || async { fake.secret("tls.crt") != Some(old.certificate.clone()) }).await;
    until("it is served", || async { tls(webhook.address(), &fake.newest_ca()).await.is_ok() }).await;
    assert_eq!(fake.secret("ca.crt").unwrap().matches("BEGIN").count(), 2);
    until("it is well", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 0")).await;
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_all_is_as_it_should_be() {
    let fake = Fake::start().await;
    let webhook = replica(&fake, DAY).await;
    until("it works", || injects(&fake, &webhook)).await;
    let again = replica(&fake, DAY).await;
    ready(&again).await;
    let reads = || fake.objects.lock().unwrap().reads;
    let before = reads();
    until("both have looked several times", || async { reads() > before + 20 }).await;
    webhook.shut_down().await;
    again.shut_down().await;
    let expected = [
        "POST /api/v1/namespaces/mesh/secrets",
        "PATCH /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/ldmesh",
    ];
    assert_eq!(fake.objects.lock().unwrap().changes, expected);
}
