//! Objects of the API, as far as anything of them is used.
//!
//! A Node is 10 to 30 KB and a Pod 6 to 10; of both a few hundred bytes matter. They are read from the text as it
//! comes, field by field, and what is not used (managed fields, images, specs) is skipped, never built. An object
//! that cannot be understood is an [`Invalid`] by its name, and the others of its list are as they would be
//! without it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

mod node;
mod pod;

pub use node::{NetworkCondition, Node, VERSION_KEY};
pub use pod::{ConfigMap, NamedPort, Namespace, Placed, Pod, PodRef};

/// Bytes of an object's name (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;
/// Bytes of a message about an object.
const LONGEST_MESSAGE: usize = 200;

/// A kind of object that is watched.
pub trait Kind: Clone + std::fmt::Debug + Send + Sync + Sized + 'static {
    /// `Node`
    const KIND: &'static str;
    /// `nodes`, as in the path.
    const PLURAL: &'static str;
    /// Whether its path has a namespace.
    type Scope;
    /// What is read of the API's JSON.
    type Raw: DeserializeOwned;

    /// Its name.
    fn name(&self) -> &str;

    /// From what was read.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    fn of(raw: Self::Raw) -> Result<Self, String>;
}

/// An object of which something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} cannot be read: {why}")]
pub struct Invalid {
    /// Its kind.
    pub kind: &'static str,
    /// Its name, as far as there is one, shortened.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// What an object's `metadata` says that is used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) creation_timestamp: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Meta {
    /// The name, if an object can have it.
    pub(crate) fn checked_name(&self) -> Result<String, String> {
        let name = self.name.clone().unwrap_or_default();
        let may = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let valid = !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(may);
        valid.then_some(name).ok_or_else(|| {
            "metadata.name is no name; wanted a-z, 0-9, - and ., 253 at most".to_owned()
        })
    }
}

/// An object as the API sends it: what is used of it, or why it cannot be.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// Name and version, for whoever watches.
    meta: ObjectMeta,
    /// The object.
    pub value: Result<T, Invalid>,
}

impl<T> Object<T> {
    /// Its name, `""` if it has none.
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }
}

/// What a watch cannot go on without, each for itself: what else there is may be of any shape.
#[derive(Default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl Identity {
    fn of(raw: &RawValue) -> Self {
        #[derive(Deserialize)]
        struct Outer<'a> {
            #[serde(borrow)]
            metadata: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
        }
        let outer: Option<Outer<'_>> = serde_json::from_str(raw.get()).ok();
        let metadata = outer.and_then(|outer| outer.metadata).unwrap_or_default();
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(|raw| serde_json::from_str(raw.get()).ok())
        };
        Self {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
        }
    }
}

impl<'de, T: Kind> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text as it is: after an error nobody could go on behind it otherwise.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("an object is none"));
        }
        let id = Identity::of(&raw);
        let parsed = serde_json::from_str(raw.get()).map_err(|e| e.to_string());
        let value = parsed.and_then(T::of).map_err(|why| Invalid {
            kind: T::KIND,
            name: shortened(id.name.as_deref().unwrap_or_default()),
            why: shortened(&why),
        });
        let meta = ObjectMeta {
            name: id.name,
            namespace: id.namespace,
            resource_version: id.resource_version,
            ..ObjectMeta::default()
        };
        Ok(Object { meta, value })
    }
}

impl<T: Kind> Resource for Object<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// One line of bounded length, without control characters: it goes to logs and terminals.
pub(crate) fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(LONGEST_MESSAGE).map(clean).collect()
}
