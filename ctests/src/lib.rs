//! The harness that runs real programs under the real library, in a network of their own.
//!
//! Invariants:
//! * Nothing here ever sends a packet out of the machine: every program with a made-up address
//!   runs inside a [`Pod`], a user + network + mount namespace without a route out.
//! * A test waits for a state with a deadline ([`wait_until`]); it never sleeps as proof.
//! * Whatever a pod started ends with the pod, daemons included, even when the test is killed.
//!
//! A test makes a [`Pod`], starts [`Backend`]s and a [`ControlPlane`] inside it, and runs programs
//! there with [`Pod::mesh`] (preloaded) or [`Pod::command`] (not preloaded).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agreement;
mod artifacts;
mod assignment;
mod backend;
mod cert_manager;
mod client;
mod compatibility;
mod control_plane;
mod coredns;
mod dials;
mod docker;
mod endpoints;
mod envoy;
mod flavour;
mod go_control_plane;
mod go_mesh;
mod greeters;
mod gunicorn;
mod helm;
mod instructions;
mod istio_proxy;
mod istiod;
mod kubelet;
mod kubernetes;
mod libc;
mod manifest;
pub mod namespace;
mod neighbours;
mod node;
mod pod;
mod postgres;
pub mod process;
mod program;
mod run;
mod server;
mod sidecar;
mod skip;
mod spring;
mod trace;
mod twin;
mod wait;

pub use agreement::Comparison;
pub use artifacts::{Artifacts, artifacts, portable_library};
pub use assignment::{Assignment, Member};
pub use backend::{Backend, Mode};
pub use cert_manager::has_cert_manager;
pub use client::Client;
pub use compatibility::{Cell, Works};
pub use control_plane::{CONTROL_PLANE_URL, ControlPlane, Stats};
pub use coredns::CoreDns;
pub use dials::{Answers, Dials, HeldDials};
pub use docker::{ContainerMesh, ContainerPod, Docker, docker, injected};
pub use endpoints::MeshEndpoint;
pub use envoy::{ENVOY, Envoy, EnvoyHost, TcpProxy};
pub use envoy_types::pb::envoy::config::core::v3::HealthStatus;
pub use flavour::{c_library, sanitized_program};
pub use go_control_plane::{Counters, GoControlPlane};
pub use go_mesh::{End, GoMesh, Variant};
pub use greeters::Greeters;
pub use gunicorn::gunicorn;
pub use helm::{has_helm, helm_without_cluster};
pub use instructions::{Counts, Difference};
pub use istio_proxy::{IstioProxy, STOCK_ENVOY};
pub use istiod::{ISTIOD_TLS_URL, Istiod};
pub use kubelet::Replica;
pub use kubernetes::{ISTIO_CA, Kubernetes, ROOT_FILE, TOKEN_FILE, has_istio};
pub use libc::{Libc, LibcPod};
pub use manifest::{Manifest, Port, Service, base64};
pub use neighbours::{CONNECTIONS, Neighbours, check_client};
pub use pod::{Pod, PodBuilder};
pub use postgres::Postgres;
pub use program::{app, c_program, compiled};
pub use run::{Finished, Running};
pub use sidecar::Sidecar;
pub use skip::{can_map_users, skipped};
pub use spring::{Greeting, Spring, SpringClient, SpringServer, spring_jars};
pub use trace::{Syscall, Trace};
pub use twin::{Twin, TwinEndpoint};
pub use wait::{wait_for, wait_until};
