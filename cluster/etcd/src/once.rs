//! What is asked once, before the agent opens anything and while no source runs.

use std::time::Duration;

use crate::Settings;
use crate::rpc::messages::{Op, OpResponse, RangeRequest, TxnRequest};
use crate::rpc::{RpcError, connect};

/// Asks for the net-conf: VNI and port of the sockets are in it. `None` where there is none yet. Servers are asked
/// one after the other, and share the time.
///
/// # Errors
/// None of them answers in time; the reason of the last in words.
pub fn net_conf(settings: &Settings, patience: Duration) -> Result<Option<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let ask = async {
        let mut why = "there is no server".to_owned();
        let share = patience / u32::try_from(settings.endpoints.len()).unwrap_or(1).max(1);
        for endpoint in &settings.endpoints {
            match tokio::time::timeout(share, read(settings, endpoint)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(e)) => why = e.to_string(),
                Err(_) => why = format!("{endpoint} does not answer"),
            }
        }
        Err(why)
    };
    let answer = runtime.block_on(ask);
    // Whatever hangs in a look-up of a name is not waited for.
    runtime.shutdown_background();
    answer
}

async fn read(settings: &Settings, endpoint: &str) -> Result<Option<String>, RpcError> {
    let mut client = connect(settings, endpoint).await?;
    let config = RangeRequest {
        key: settings.config_key().into_bytes(),
        range_end: Vec::new(),
    };
    let request = TxnRequest {
        compare: Vec::new(),
        success: vec![Op::Range(config).into()],
    };
    let answer = client.txn(request).await?;
    let found = answer.responses.into_iter().find_map(|r| match r.op {
        Some(OpResponse::Range(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    Ok(found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}
