//! Splits a text into documents and gives each its type.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::{Base64, nullable};
use super::{DestinationRule, EndpointSlice, InputError, Node, Pod, Service, ServiceEntry, Sidecar, VirtualService};

/// Metadata of an object, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "object metadata")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default, deserialize_with = "nullable")]
    pub labels: std::collections::BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// An object with metadata and a body of type `T` beside it (`spec`, or the top level for kinds without one).
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>", expecting = "a Kubernetes object")]
pub(crate) struct Object<T> {
    pub metadata: Metadata,
    pub spec: T,
}

/// A resource that is served as it is: `kind: XdsResource`. Tests use it to serve what no real control plane would.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "the spec of an XdsResource")]
pub(crate) struct RawResource {
    pub type_url: String,
    #[serde(default)]
    pub name: String,
    /// The protobuf message.
    pub base64: Base64,
}

/// One document of a kind that matters here.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Service(Box<Object<Service>>),
    EndpointSlice(EndpointSlice),
    Pod(Box<Pod>),
    Node(Node),
    DestinationRule(Box<Object<DestinationRule>>),
    VirtualService(Box<Object<VirtualService>>),
    ServiceEntry(Box<Object<ServiceEntry>>),
    Sidecar(Object<Sidecar>),
    XdsResource(RawResource),
    List(Vec<Document>),
    /// Known to describe nothing for clients (a Deployment, a Namespace).
    Irrelevant,
    /// Not known at all: its `kind`, for a warning.
    Unknown(String),
}

/// Reads every document of `text`; `file` is for errors.
pub(crate) fn read_documents(file: &str, text: &str) -> Result<Vec<Document>, InputError> {
    let mut headers = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let header: Option<Header> = in_document(file, "document", document, std::marker::PhantomData)?;
        headers.push(header);
    }
    let mut documents = Vec::new();
    for (document, header) in serde_norway::Deserializer::from_str(text).zip(&headers) {
        if let Some(header) = header {
            documents.push(in_document(file, header.kind_or("document"), document, header)?);
        }
    }
    Ok(documents)
}

/// Runs `seed` over one document and gives an error its place.
fn in_document<'de, S: DeserializeSeed<'de>>(
    file: &str,
    object: &str,
    document: serde_norway::Deserializer<'de>,
    seed: S,
) -> Result<S::Value, InputError> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(document, &mut track);
    seed.deserialize(deserializer).map_err(|error: serde_norway::Error| {
        let field = track.path().to_string();
        InputError::Invalid {
            file: file.to_owned(),
            line: error.location().map_or(0, |at| at.line()),
            object: one_line(object),
            message: message_of(&error, &field),
            field: one_line(&field),
        }
    })
}

/// The parser's message without the path and the place, which the error carries itself.
fn message_of(error: &serde_norway::Error, field: &str) -> String {
    let text = error.to_string();
    // The parser's own path may end early: at the parent of the field.
    let text = match text.split_once(": ") {
        Some((path, rest)) if field.starts_with(path) => rest,
        _ => &text,
    };
    let text = match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(text),
        None => text,
    };
    one_line(text)
}

/// What came from a file may hold line breaks; a message may not.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first thing to know of a document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a Kubernetes object with apiVersion and kind")]
struct Header {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    items: Option<Items>,
}

/// Headers of the items of a list; `items` of any other kind is that kind's business.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Items {
    Objects(Vec<Header>),
    Other(IgnoredAny),
}

impl Header {
    fn kind_or<'a>(&'a self, other: &'a str) -> &'a str {
        self.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(other)
    }

    fn group(&self) -> &str {
        self.api_version.as_deref().and_then(|version| version.rsplit_once('/')).map_or("", |(group, _)| group)
    }
}

impl<'de> DeserializeSeed<'de> for &Header {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Document, D::Error> {
        let kind = self.kind.as_deref().unwrap_or_default();
        Ok(match (self.group(), kind) {
            ("", "Service") => Document::Service(Deserialize::deserialize(from)?),
            ("", "Pod") => Document::Pod(Deserialize::deserialize(from)?),
            ("", "Node") => Document::Node(Deserialize::deserialize(from)?),
            ("discovery.k8s.io", "EndpointSlice") => Document::EndpointSlice(Deserialize::deserialize(from)?),
            ("networking.istio.io", "DestinationRule") => Document::DestinationRule(Deserialize::deserialize(from)?),
            ("networking.istio.io", "VirtualService") => Document::VirtualService(Deserialize::deserialize(from)?),
            ("networking.istio.io", "ServiceEntry") => Document::ServiceEntry(Deserialize::deserialize(from)?),
            ("networking.istio.io", "Sidecar") => Document::Sidecar(Deserialize::deserialize(from)?),
            ("ldmesh.io", "XdsResource") => Document::XdsResource(Object::<RawResource>::deserialize_bare(from)?),
            ("", "List") => {
                let items = match &self.items {
                    Some(Items::Objects(items)) => items.as_slice(),
                    _ => &[],
                };
                from.deserialize_map(ListVisitor { items })?
            }
            (group, kind) => {
                IgnoredAny::deserialize(from)?;
                if is_irrelevant(group, kind) { Document::Irrelevant } else { Document::Unknown(self.title()) }
            }
        })
    }
}

impl Header {
    fn title(&self) -> String {
        let version = self.api_version.as_deref().unwrap_or("without apiVersion");
        one_line(&format!("{} ({version})", self.kind_or("an object without kind")))
    }
}

impl<T: for<'a> Deserialize<'a>> Object<T> {
    /// The spec of an object whose metadata may be absent.
    fn deserialize_bare<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "T: Deserialize<'de>")]
        struct Bare<T> {
            spec: T,
        }
        Bare::deserialize(from).map(|bare| bare.spec)
    }
}

/// Kinds that commonly stand in the same files and say nothing about where a service is.
fn is_irrelevant(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(kind, "Namespace" | "ServiceAccount" | "ConfigMap" | "Secret" | "PersistentVolumeClaim"),
        "apps" | "batch" | "autoscaling" | "policy" | "rbac.authorization.k8s.io" => true,
        _ => false,
    }
}

/// Reads a `v1 List`, each item with the type its header names.
struct ListVisitor<'a> {
    items: &'a [Header],
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a v1 List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                items = map.next_value_seed(ItemsSeed(self.items))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Document::List(items))
    }
}

struct ItemsSeed<'a>(&'a [Header]);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Document>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Document>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes objects")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut documents = Vec::new();
        // Both passes read the same text, so that there are as many headers as items; one that has none
        // (the header pass gave up on `items`) is read as an object without kind and reported as such.
        let none = Header::default();
        let mut headers = self.0.iter();
        while let Some(document) = seq.next_element_seed(headers.next().unwrap_or(&none))? {
            documents.push(document);
        }
        Ok(documents)
    }
}
