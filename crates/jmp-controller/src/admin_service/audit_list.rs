//! The audit record for administrators.

use jmp_proto::jmp::v1::{AuditRecord, ListAuditRequest, ListAuditResponse};
use jmp_store::AuditQuery;
use tonic::Status;

use crate::context::Context;
use crate::convert::{instant, timestamp};
use crate::engine::store_failure;
use crate::page::PAGE_LIMIT;

/// Records of a page of which nothing was said.
const PAGE: usize = 100;

/// Which records are wanted.
pub(super) fn query(request: &ListAuditRequest) -> Result<AuditQuery, Status> {
    let limit = match usize::try_from(request.page_size) {
        Ok(0) => PAGE,
        Ok(size) => size.min(PAGE_LIMIT),
        Err(_) => {
            return Err(Status::invalid_argument(format!(
                "page_size is {}: use 0 for {PAGE} or a positive number",
                request.page_size
            )));
        }
    };
    let since = request
        .since
        .as_ref()
        .map(|since| instant(since).ok_or_else(|| Status::invalid_argument("since is no time")))
        .transpose()?;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(AuditQuery {
        actor: some(&request.actor),
        resource: some(&request.resource),
        since,
        limit,
        page_token: some(&request.page_token),
        ..AuditQuery::default()
    })
}

pub(super) async fn list(
    context: &Context,
    request: &ListAuditRequest,
) -> Result<ListAuditResponse, Status> {
    let page = context
        .audit
        .list_audit(query(request)?)
        .await
        .map_err(|error| store_failure(&error))?;
    let records = page.records.into_iter().map(|record| AuditRecord {
        number: record.number,
        time: Some(timestamp(record.time)),
        actor: record.actor,
        token_id: record.token_id,
        peer: record.peer,
        action: record.action,
        resource: record.resource,
        result: record.result,
        detail: record.detail,
    });
    Ok(ListAuditResponse {
        records: records.collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}
