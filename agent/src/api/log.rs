//! What is logged, asked and changed.

use axum::Json;
use ringway_control::view::LogStatus;
use ringway_requests::{ApiError, LogWanted};

/// How it is.
pub(super) fn status() -> Result<LogStatus, ApiError> {
    let levels = levels()?;
    let form = ringway_log::installed().map_or("text", |log| log.form().name());
    Ok(LogStatus {
        level: levels.in_force(),
        usual: levels.usual(),
        usual_in_s: levels.usual_in().map(|time| time.as_secs()),
        format: form.to_owned(),
        lines_lost: ringway_log::lost(),
        lines_left_out: ringway_log::left_out(),
    })
}

/// Changes it, for a time or until somebody says otherwise.
pub(super) fn change(wanted: &LogWanted) -> Result<Json<LogStatus>, ApiError> {
    let levels = levels()?;
    let number = levels
        .ask(wanted.level.as_deref(), wanted.time)
        .map_err(|wrong| ApiError::bad_request(wrong.to_string(), "name another level"))?;
    let level = levels.in_force();
    match wanted.time {
        None => tracing::info!(level, "what is logged was changed"),
        Some(time) => {
            tracing::info!(
                level,
                seconds = time.as_secs(),
                "what is logged was changed for a time"
            );
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                if levels.take_back(number) {
                    tracing::info!(
                        level = levels.in_force(),
                        "what is logged is the usual again"
                    );
                }
            });
        }
    }
    Ok(Json(status()?))
}

fn levels() -> Result<&'static ringway_log::Levels, ApiError> {
    let none = || {
        ApiError::new(
            503,
            "this process has no log",
            "start it with `ringway agent`",
        )
    };
    ringway_log::levels().ok_or_else(none)
}
