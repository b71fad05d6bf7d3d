//! Files that change while requests run: certificates as kubelet swaps them, and settings.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;
use webhook::{Certificates, Made, StartError, Webhook};

use super::client::{Connection, get, tls};
use super::{made, metric, options, start, until};

pub fn write(folder: &Path, made: &Made) {
    fs::write(folder.join("tls.crt"), &made.certificate).unwrap();
    fs::write(folder.join("tls.key"), &made.key).unwrap();
}

/// The file's new content, whole at every moment: one that is empty for an instant would be read as such.
fn replace(file: &Path, content: &str) {
    let next = file.with_extension("next");
    fs::write(&next, content).unwrap();
    fs::rename(&next, file).unwrap();
}

/// A mounted Secret as kubelet writes it: files link through `..data`, which is swapped by a rename.
fn swap(mount: &Path, version: &str, made: &Made) {
    let folder = mount.join(format!("..{version}"));
    fs::create_dir(&folder).unwrap();
    write(&folder, made);
    symlink(format!("..{version}"), mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        if !mount.join(name).exists() {
            symlink(format!("..data/{name}"), mount.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_secret_is_served_to_new_connections_and_no_request_fails() {
    let (mount, first) = (TempDir::new().unwrap(), made());
    swap(mount.path(), "1", &first);
    let webhook = Webhook::start(options(Certificates::Folder(mount.path().to_owned()))).await.unwrap();
    let address = webhook.address();
    let (done, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut old = Connection::open(address, &first.ca).await.unwrap();
    let requests = {
        let (done, over) = (Arc::clone(&done), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                assert!(old.inject().await.unwrap());
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut current = first;
    for version in ["2", "3", "4"] {
        let next = made();
        swap(mount.path(), version, &next);
        until("the new certificate is served", || async { tls(address, &next.ca).await.is_ok() }).await;
        assert!(tls(address, &current.ca).await.is_err(), "the old one is served still");
        let before = done.load(Ordering::Relaxed);
        until("requests go on", || async { done.load(Ordering::Relaxed) > before }).await;
        current = next;
    }
    over.store(true, Ordering::Relaxed);
    requests.await.unwrap();
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_certificate_files_keep_the_last_good_one_and_are_counted() {
    let (webhook, good, folder) = start().await;
    let (other, past) = (made(), std::time::SystemTime::now() - 2 * super::DAY);
    let over = webhook::make(&[super::NAME.to_owned()], past, super::DAY).unwrap();
    let bad = [
        ("no PEM", good.key.as_str()),
        (other.certificate.as_str(), good.key.as_str()),
        (good.certificate.as_str(), ""),
        (over.certificate.as_str(), over.key.as_str()),
    ];
    for (certificate, key) in bad {
        write(folder.path(), &good);
        until("it is good", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 0")).await;
        fs::write(folder.path().join("tls.crt"), certificate).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        until("it is bad", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"certificates\"} 1")).await;
        assert!(Connection::open(webhook.address(), &good.ca).await.unwrap().inject().await.unwrap());
    }
    assert!(!metric(&webhook, "ldmesh_webhook_reload_errors_total{what=\"certificates\"} 0").await);
    fs::remove_file(folder.path().join("tls.key")).unwrap();
    assert_eq!(get(webhook.health_address(), "/readyz").await.0, 200);
    write(folder.path(), &other);
    until("a good one is served again", || async { tls(webhook.address(), &other.ca).await.is_ok() }).await;
    webhook.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_reloaded_and_a_bad_file_keeps_the_last_good_ones() {
    let (folder, made) = (TempDir::new().unwrap(), made());
    write(folder.path(), &made);
    let file = folder.path().join("settings.yaml");
    replace(&file, "image: registry.example/ldmesh:1\n");
    let mut options = options(Certificates::Folder(folder.path().to_owned()));
    options.settings = Some(file.clone());
    let webhook = Webhook::start(options).await.unwrap();
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    assert_eq!(image(&mut connection).await, "registry.example/ldmesh:1");
    for bad in ["image: a b\n", "colour: blue\n", "- x\n", "image: [\n"] {
        replace(&file, bad);
        until("it is bad", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"settings\"} 1")).await;
        assert_eq!(image(&mut connection).await, "registry.example/ldmesh:1");
        replace(&file, "image: registry.example/ldmesh:1\n");
        until("it is good", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"settings\"} 0")).await;
    }
    replace(&file, "image: registry.example/ldmesh:2\n");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while image(&mut connection).await != "registry.example/ldmesh:2" {
        assert!(std::time::Instant::now() < deadline);
    }
    webhook.shut_down().await;
}

async fn image(connection: &mut Connection) -> String {
    use base64::Engine;
    let body = super::client::review().to_string();
    let (_, answer) = connection.post("/inject/namespace-enabled", "application/json", body).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
    let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
    let init = patch.as_array().unwrap().iter().find(|operation| operation["path"] == "/spec/initContainers");
    init.unwrap()["value"][0]["image"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn bad_files_at_the_start_are_an_error_with_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().display().to_string();
    let check = async |expected: String| {
        let started = Webhook::start(options(Certificates::Folder(folder.path().to_owned()))).await;
        match started {
            Err(StartError::File(text)) => assert!(text.starts_with(&expected), "{text}"),
            _ => panic!("it started"),
        }
    };
    check(format!("{path}/tls.crt: No such file")).await;
    fs::write(folder.path().join("tls.crt"), made().certificate).unwrap();
    fs::write(folder.path().join("tls.key"), made().key).unwrap();
    check(format!("{path}: tls.crt and tls.key: ")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_settings_file_is_a_bad_one_and_an_empty_mapping_are_the_defaults() {
    let (folder, made) = (TempDir::new().unwrap(), made());
    write(folder.path(), &made);
    let file = folder.path().join("settings.yaml");
    let mut options = options(Certificates::Folder(folder.path().to_owned()));
    options.settings = Some(file.clone());
    for empty in ["", "\n"] {
        fs::write(&file, empty).unwrap();
        match Webhook::start(options.clone()).await {
            Err(StartError::File(why)) => {
                assert_eq!(why, format!("{}: is empty; write settings, or {{}} for the defaults", file.display()));
            }
            _ => panic!("it started"),
        }
    }
    fs::write(&file, "image: registry.example/ldmesh:1\n").unwrap();
    let webhook = Webhook::start(options).await.unwrap();
    let mut connection = Connection::open(webhook.address(), &made.ca).await.unwrap();
    // Whoever writes it in place empties it first.
    fs::write(&file, "").unwrap();
    until("it is bad", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"settings\"} 1")).await;
    assert_eq!(image(&mut connection).await, "registry.example/ldmesh:1");
    let next = folder.path().join("next.yaml");
    fs::write(&next, "{}\n").unwrap();
    fs::rename(&next, &file).unwrap();
    until("it is good", || metric(&webhook, "ldmesh_webhook_reload_failed{what=\"settings\"} 0")).await;
    assert_eq!(image(&mut connection).await, "ldmesh");
    webhook.shut_down().await;
}
