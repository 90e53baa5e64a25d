//! Calls with a limit, and streams of changes.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::{Code, Status};

use crate::error::{Error, Result};

/// How long one call to the controller may take. Dial may wait for the exporter, so it has its own.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Changes as they come.
pub type Changes<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Waits for an answer, but not for ever.
pub(crate) async fn limited<T>(
    what: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    within(CALL_LIMIT, what, call).await
}

pub(crate) async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer
            .map(tonic::Response::into_inner)
            .map_err(|status| Error::refused_by_controller(what, status)),
        Err(_) => Err(Error::refused_by_controller(
            what,
            Status::deadline_exceeded(format!(
                "the controller did not answer within {} s",
                limit.as_secs()
            )),
        )),
    }
}

pub(crate) async fn stream<T>(
    what: &'static str,
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
) -> Result<Option<Changes<T>>>
where
    T: Send + 'static,
{
    match limited(what, call).await {
        Ok(items) => Ok(Some(Box::pin(items.map(move |item| {
            item.map_err(|status| Error::refused_by_controller(what, status))
        })))),
        Err(Error::Refused { status, .. }) if status.code() == Code::Unimplemented => Ok(None),
        Err(error) => Err(error),
    }
}
