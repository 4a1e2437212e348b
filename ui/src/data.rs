//! What the page shows: several answers of the agent in one.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::{Ask, Refused};

/// Names in the answer, and what of the agent each is.
const PARTS: [(&str, &str); 6] = [
    ("status", "/v1/status"),
    ("pods", "/v1/pods"),
    ("peers", "/v1/tables/peers"),
    ("paths", "/v1/tables/paths"),
    ("drops", "/v1/drops"),
    ("last", "/v1/drops/last"),
];
/// How long an answer serves others who ask: many windows cost the agent no more than one.
const FRESH: Duration = Duration::from_millis(500);

/// Asks the agent.
pub(crate) struct Data {
    ask: Arc<Ask>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Data {
    pub(crate) fn new(ask: Arc<Ask>) -> Data {
        Data {
            ask,
            last: Mutex::new(None),
        }
    }

    /// An object with `time_ms`, since 1970, and all parts, each as the agent's API has it.
    pub(crate) async fn get(&self) -> Result<Bytes, Refused> {
        let mut last = self.last.lock().await;
        if let Some((when, bytes)) = &*last
            && when.elapsed() < FRESH
        {
            return Ok(bytes.clone());
        }
        let ask = self.ask.clone();
        let asked = tokio::task::spawn_blocking(move || gather(&*ask)).await;
        let bytes = asked.map_err(|e| Refused {
            what: e.to_string(),
        })??;
        *last = Some((Instant::now(), bytes.clone()));
        Ok(bytes)
    }
}

fn gather(ask: &Ask) -> Result<Bytes, Refused> {
    let mut all = Map::new();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    all.insert("time_ms".into(), Value::from(now.as_millis() as u64));
    for (name, path) in PARTS {
        all.insert(name.into(), ask(path)?);
    }
    Ok(Value::Object(all).to_string().into())
}
