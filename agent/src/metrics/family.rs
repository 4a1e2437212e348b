//! What a metric family is, and how its samples are written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What every name begins with.
pub const PREFIX: &str = "ringway";

/// How the values of a family are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart of the agent.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many values were up to which size; all of it grows.
    Histogram,
    /// Always 1; what it says is in its labels.
    Info,
}

impl Kind {
    /// As OpenMetrics calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }

    const fn of_library(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        }
    }
}

/// Samples of one name.
#[derive(Debug)]
pub struct Family {
    /// Without prefix, unit and what the kind puts behind.
    pub name: &'static str,
    /// What its samples are.
    pub kind: Kind,
    /// Of its values, if they have one: part of the name.
    pub unit: Option<Unit>,
    /// Names of the labels that tell its samples apart.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Family {
    /// With prefix and unit.
    pub fn full_name(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{PREFIX}_{}_{}", self.name, unit.as_str()),
            None => format!("{PREFIX}_{}", self.name),
        }
    }

    /// Names of its samples, as queries have them.
    pub fn sample_names(&self) -> Vec<String> {
        let name = self.full_name();
        let behind: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Info => &["_info"],
        };
        behind.iter().map(|end| format!("{name}{end}")).collect()
    }

    /// Begins the family; its samples come next.
    pub(super) fn begin<'a>(
        &'static self,
        encoder: &'a mut DescriptorEncoder<'_>,
    ) -> Result<Samples<'a>, fmt::Error> {
        let kind = self.kind.of_library();
        let unit = self.unit.as_ref();
        let encoder = encoder.encode_descriptor(self.name, self.help, unit, kind)?;
        Ok(Samples {
            family: self,
            encoder,
        })
    }
}

/// Writes the samples of a family.
pub(super) struct Samples<'a> {
    family: &'static Family,
    encoder: MetricEncoder<'a>,
}

impl Samples<'_> {
    /// A sample of a counter or a gauge; `values` are those of the labels, in their order.
    pub(super) fn sample(&mut self, values: &[&str], value: impl Into<Value>) -> fmt::Result {
        let labels = self.labels(values);
        let labels = &labels.as_slice();
        let mut encoder = match values.is_empty() {
            true => return write(&mut self.encoder, self.family.kind, value.into()),
            false => self.encoder.encode_family(labels)?,
        };
        write(&mut encoder, self.family.kind, value.into())
    }

    /// The sample of what is always 1.
    pub(super) fn info(&mut self, values: &[&str]) -> fmt::Result {
        let labels = self.labels(values);
        self.encoder.encode_info(&labels.as_slice())
    }

    /// A histogram: upper bounds, the last of them infinite, and how many values are between.
    pub(super) fn histogram(&mut self, sum: f64, buckets: &[(f64, u64)]) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let encoder = &mut self.encoder;
        encoder.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
    }

    fn labels<'v>(&self, values: &[&'v str]) -> Vec<(&'static str, &'v str)> {
        debug_assert_eq!(self.family.labels.len(), values.len(), "{:?}", self.family);
        let names = self.family.labels.iter().copied();
        names.zip(values.iter().copied()).collect()
    }
}

/// A number, whole wherever it can be: beyond 2^53 a fraction would lose the last bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

fn write(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => encoder.encode_counter::<NoLabelSet, _, f64>(&n, None),
        (Kind::Counter, Value::Real(x)) => encoder.encode_counter::<NoLabelSet, _, f64>(&x, None),
        (_, Value::Whole(n)) => encoder.encode_gauge(&n),
        (_, Value::Real(x)) => encoder.encode_gauge(&x),
    }
}
