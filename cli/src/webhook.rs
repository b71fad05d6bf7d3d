//! `ldmesh webhook`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Notify;
use webhook::{Certificates, Cluster, Options, Rotation, Webhook};
use xds_runtime::config::parse_duration;

use crate::{log_lines, signals};

/// Puts pods into the mesh when they are created: the mutating admission webhook.
#[derive(Debug, clap::Args)]
#[command(after_help = "The API server is found as a pod of the cluster finds it, or by KUBECONFIG. \
                        docs/kubernetes.md says how to install it all.")]
pub struct Args {
    /// Where to serve admission (HTTPS, POST /inject).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where to serve /healthz, /readyz and /metrics (HTTP).
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    health_listen: SocketAddr,
    /// A YAML file of settings, NAME: VALUE each, reloaded on change.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A folder with tls.crt and tls.key, reloaded on change.
    #[arg(long, value_name = "DIR", required_unless_present = "self_signed", conflicts_with = "self_signed")]
    certificates: Option<PathBuf>,
    /// Makes its own CA and certificate, and keeps caBundle of its MutatingWebhookConfiguration right.
    #[arg(long)]
    self_signed: bool,
    #[command(flatten)]
    own: Own,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --self-signed")]
struct Own {
    /// The Service that the API server calls.
    #[arg(long, value_name = "NAME", default_value = "ldmesh-webhook")]
    service: String,
    /// Its namespace [default: the variable POD_NAMESPACE].
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The Secret in which replicas share the certificate.
    #[arg(long, value_name = "NAME", default_value = "ldmesh-webhook-certificates")]
    secret: String,
    /// The MutatingWebhookConfiguration.
    #[arg(long, value_name = "NAME", default_value = "ldmesh")]
    webhook_configuration: String,
    /// How long a certificate holds; there is a new one after two thirds of it.
    #[arg(long, value_name = "D", default_value = "90d", value_parser = lifetime)]
    certificate_lifetime: Duration,
}

/// How often files, Secret and caBundle are looked at. kubelet itself takes up to a minute to renew a mounted file.
const EVERY: Duration = Duration::from_secs(5);
/// What API servers may take to see a new caBundle.
const SETTLE: Duration = Duration::from_secs(10);
/// Until nobody sends requests to a replica that ends; with what is in flight (5 s at most), less than 10 s.
const DRAIN: Duration = Duration::from_secs(3);

fn lifetime(text: &str) -> Result<Duration, String> {
    // Replicas look every few seconds, and API servers need a while to see a new CA; dates end with year 9999.
    let allowed = Duration::from_secs(60)..=Duration::from_secs(100 * 365 * 86_400);
    let lifetime = parse_duration(text).ok().filter(|lifetime| allowed.contains(lifetime));
    lifetime.ok_or_else(|| "use a duration from 1m on, such as 90d or 36h".to_owned())
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> Result<ExitCode> {
    log_lines::to_stderr("webhook");
    let certificates = match args.certificates {
        Some(folder) => Certificates::Folder(folder),
        None => Certificates::Own(Box::new(rotation(args.own)?)),
    };
    let options = Options {
        listen: args.listen,
        health_listen: args.health_listen,
        settings: args.settings,
        certificates,
        every: EVERY,
        drain: DRAIN,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads: is the limit of processes reached?")?;
    runtime.block_on(async {
        let stop = Arc::new(Notify::new());
        signals::notify_on_stop(Arc::clone(&stop))?;
        let webhook = Webhook::start(options).await?;
        eprintln!("ldmesh: admission on {}, health on {}", webhook.address(), webhook.health_address());
        stop.notified().await;
        eprintln!("ldmesh: shutting down");
        webhook.shut_down().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn rotation(own: Own) -> Result<Rotation> {
    let variable = || std::env::var("POD_NAMESPACE").ok().filter(|name| !name.is_empty());
    let Some(namespace) = own.namespace.or_else(variable) else {
        bail!("--namespace is missing, and POD_NAMESPACE is not set; name the namespace of the Service");
    };
    Ok(Rotation {
        cluster: Cluster::find()?,
        namespace,
        service: own.service,
        secret: own.secret,
        configuration: own.webhook_configuration,
        lifetime: own.certificate_lifetime,
        settle: SETTLE,
    })
}
