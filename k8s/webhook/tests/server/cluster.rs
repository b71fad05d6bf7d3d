//! A stand-in for the API server: one Secret, one MutatingWebhookConfiguration, optimistic concurrency, over TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use webhook::{Certificate, Cluster, Served, make, serve_tls};

const SECRETS: &str = "/api/v1/namespaces/mesh/secrets";
const SECRET: &str = "/api/v1/namespaces/mesh/secrets/ldmesh-webhook-certificates";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/ldmesh";

/// What somebody does to an object.
pub type Change = Box<dyn FnOnce(&mut Value) + Send>;

#[derive(Default)]
pub struct Objects {
    pub secret: Option<Value>,
    pub configuration: Option<Value>,
    /// Answered instead of all else.
    pub refuses: Option<u16>,
    /// The Secret cannot be written.
    pub refuses_secret: bool,
    /// What somebody else does to the configuration just before the next patch comes.
    pub meanwhile: Option<Change>,
    version: u64,
    /// Requests that changed nothing.
    pub reads: usize,
    /// Method and path of each request that changed something.
    pub changes: Vec<String>,
}

pub struct Fake {
    address: SocketAddr,
    ca: String,
    pub objects: Arc<Mutex<Objects>>,
    _stop: watch::Sender<bool>,
}

/// Two webhooks of ours as the chart makes them, one of somebody else.
pub fn configuration() -> Value {
    let webhook = |name: &str, service: &str| json!({"name": name, "clientConfig": {"service": {"name": service, "namespace": "mesh", "path": "/inject"}}});
    json!({
        "metadata": {"name": "ldmesh", "resourceVersion": "1"},
        "webhooks": [
            webhook("namespace.ldmesh.io", "ldmesh-webhook"),
            webhook("other.io", "other"),
            webhook("pod.ldmesh.io", "ldmesh-webhook"),
        ],
    })
}

/// Writes a caBundle for each webhook of ours.
pub fn set_bundle(configuration: &mut Value, pem: &str) {
    for index in [0, 2] {
        configuration["webhooks"][index]["clientConfig"]["caBundle"] = STANDARD.encode(pem).into();
    }
}

impl Fake {
    pub async fn start() -> Self {
        let made = make(&["127.0.0.1".to_owned()], std::time::SystemTime::now(), super::DAY).unwrap();
        let served = Arc::new(Served::default());
        served.set(Certificate::parse(made.certificate.as_bytes(), made.key.as_bytes()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let objects = Objects { configuration: Some(configuration()), ..Objects::default() };
        let objects = Arc::new(Mutex::new(objects));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&objects));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve_tls(listener, served, router, stopped));
        Fake { address, ca: made.ca, objects, _stop: stop }
    }

    pub fn cluster(&self) -> Cluster {
        let ca = STANDARD.encode(&self.ca);
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- name: here\n  context: {{cluster: c, user: u}}\n\
             clusters:\n- name: c\n  cluster:\n    server: https://{}\n    certificate-authority-data: {ca}\n\
             users:\n- name: u\n  user: {{token: secret-token}}\n",
            self.address
        );
        Cluster::from_kubeconfig(&config, Path::new(".")).unwrap()
    }

    /// What is in the Secret, decoded.
    pub fn secret(&self, key: &str) -> Option<String> {
        let objects = self.objects.lock().unwrap();
        let text = objects.secret.as_ref()?["data"][key].as_str()?.to_owned();
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    }

    /// The CA of the Secret's certificate; those before it come behind it.
    pub fn newest_ca(&self) -> String {
        let end = "-----END CERTIFICATE-----\n";
        self.secret("ca.crt").unwrap().split_inclusive(end).next().unwrap().to_owned()
    }

    /// Loses what is in the Secret.
    pub fn damage_secret(&self, data: Value) {
        self.objects.lock().unwrap().secret.as_mut().unwrap()["data"] = data;
    }

    /// The bundle of each webhook.
    pub fn bundles(&self) -> Vec<Option<String>> {
        let objects = self.objects.lock().unwrap();
        let webhooks = objects.configuration.as_ref().unwrap()["webhooks"].as_array().unwrap().clone();
        let bundle = |webhook: &Value| Some(STANDARD.decode(webhook["clientConfig"]["caBundle"].as_str()?).unwrap());
        webhooks.iter().map(|webhook| bundle(webhook).map(|bundle| String::from_utf8(bundle).unwrap())).collect()
    }
}

async fn answer(State(objects): State<Arc<Mutex<Objects>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let token = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    if token != Some("Bearer secret-token") {
        return refuse(401, "Unauthorized");
    }
    let mut objects = objects.lock().unwrap();
    if let Some(status) = objects.refuses {
        return refuse(status, "not now");
    }
    let path = head.uri.path();
    if head.method == Method::GET {
        objects.reads += 1;
    } else {
        objects.changes.push(format!("{} {path}", head.method));
    }
    match (&head.method, path) {
        (&Method::GET, SECRET) => found(&objects.secret),
        (&Method::GET, CONFIGURATION) => found(&objects.configuration),
        (&Method::POST, SECRETS) | (&Method::PUT, SECRET) if objects.refuses_secret => refuse(403, "forbidden"),
        (&Method::POST, SECRETS) if objects.secret.is_some() => refuse(409, "already exists"),
        (&Method::POST, SECRETS) => objects.write(&body),
        (&Method::PUT, SECRET) => {
            let Some(secret) = &objects.secret else { return refuse(404, "not found") };
            let sent: Value = serde_json::from_slice(&body).unwrap();
            if sent["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"] {
                return refuse(409, "the object has been modified");
            }
            objects.write(&body)
        }
        (&Method::PATCH, CONFIGURATION) => {
            assert_eq!(head.headers["content-type"], "application/json-patch+json");
            let patch: json_patch::Patch = serde_json::from_slice(&body).unwrap();
            let meanwhile = objects.meanwhile.take();
            let configuration = objects.configuration.as_mut().unwrap();
            if let Some(change) = meanwhile {
                change(configuration);
            }
            if let Err(error) = json_patch::patch(configuration, &patch) {
                return refuse(422, &error.to_string());
            }
            found(&objects.configuration)
        }
        _ => refuse(403, &format!("{} {path} is forbidden", head.method)),
    }
}

impl Objects {
    fn write(&mut self, body: &Bytes) -> Response {
        let mut secret: Value = serde_json::from_slice(body).unwrap();
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret);
        found(&self.secret)
    }
}

fn found(object: &Option<Value>) -> Response {
    match object {
        Some(object) => object.to_string().into_response(),
        None => refuse(404, "not found"),
    }
}

fn refuse(status: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "message": message, "code": status});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}
