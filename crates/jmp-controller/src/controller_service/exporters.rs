//! Calls of exporters.

use std::collections::BTreeMap;
use std::sync::Arc;

use jmp_auth::IdentityKind;
use jmp_lease::ExporterStatus;
use jmp_lease::pool::{Actor, Command, Event};
use jmp_proto::v1;
use jmp_types::resource::{Device, Exporter, Key, PROCESS_LABEL_PREFIX};
use tonic::{Request, Status};

use super::Controllers;
use crate::audit;
use crate::authentication::Caller;
use crate::exporter_sessions::{ListenStream, StatusStream};
use crate::names;

const EXPORTER: &[IdentityKind] = &[IdentityKind::Exporter];
/// Devices of one exporter.
const DEVICES: usize = 4096;
/// Labels of the process, and of each device.
const LABELS: usize = 256;
/// Bytes of labels and devices together, as JSON. With the words of administrators and the last
/// status an exporter stays below what the store takes.
const REGISTRATION: usize = 512 * 1024;
/// Bytes of a reason or status message.
const TEXT: usize = 16 * 1024;

// === impl Controllers ===

impl Controllers {
    pub(super) async fn do_register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<v1::RegisterResponse, Status> {
        const ACTION: &str = "Register";
        let context = &self.context;
        let caller = context
            .audited_caller(&request, EXPORTER, ACTION, "")
            .await?;
        let request = request.into_inner();
        let work = async {
            self.slow_down(&caller)?;
            if !self.registers_for_each_lease(&caller.key) {
                self.refuse_second_process(&caller, ACTION).await?;
            }
            let labels = process_labels(request.labels)?;
            let devices = devices(request.reports)?;
            fits(&labels, &devices)?;
            let event = Event::Registered {
                exporter: caller.key.clone(),
                labels,
                devices,
            };
            context.engine.event(event).await
        };
        let resource = audit::resource("exporter", &caller.key);
        context.audited(&caller, ACTION, resource, work).await?;
        context.exporters.restarted(&caller.key);
        tracing::info!(exporter = %caller.key, peer = caller.peer.text(), "exporter registered");
        Ok(v1::RegisterResponse { uuid: caller.uid })
    }

    pub(super) async fn do_unregister(
        &self,
        request: Request<v1::UnregisterRequest>,
    ) -> Result<v1::UnregisterResponse, Status> {
        const ACTION: &str = "Unregister";
        let context = &self.context;
        let caller = context
            .audited_caller(&request, EXPORTER, ACTION, "")
            .await?;
        let event = Event::Unregistered {
            exporter: caller.key.clone(),
            reason: cut(request.into_inner().reason),
        };
        let resource = audit::resource("exporter", &caller.key);
        let work = async {
            self.slow_down(&caller)?;
            context.engine.event(event).await
        };
        context.audited(&caller, ACTION, resource, work).await?;
        tracing::info!(exporter = %caller.key, "exporter unregistered");
        Ok(v1::UnregisterResponse {})
    }

    pub(super) async fn do_report_status(
        &self,
        request: Request<v1::ReportStatusRequest>,
    ) -> Result<v1::ReportStatusResponse, Status> {
        let caller = self.context.caller(&request, EXPORTER)?;
        let request = request.into_inner();
        let status = status(request.status)?;
        self.slow_down(&caller)?;
        if request.release_lease.unwrap_or_default() {
            self.release_held(&caller).await;
        }
        if status == ExporterStatus::Available {
            self.context.exporters.heard(&caller.key).await;
        }
        let event = Event::StatusReported {
            exporter: caller.key.clone(),
            status,
            message: cut(request.message.unwrap_or_default()),
        };
        self.context.engine.event(event).await?;
        Ok(v1::ReportStatusResponse {})
    }

    /// UNAVAILABLE, since shipped exporters repeat a report after that only (facts: protocol 7.3).
    fn slow_down(&self, caller: &Caller) -> Result<(), Status> {
        let allowed = self.context.guards.reports.check(caller.identity());
        allowed.map_err(|status| Status::unavailable(status.message()))
    }

    /// Failures are only logged: the status counts all the same (facts: controller 4.1).
    async fn release_held(&self, caller: &Caller) {
        let exporter = &caller.key;
        let Some(lease) = self.context.view.lease_of(exporter) else {
            return;
        };
        let command = Command::Release {
            actor: Actor::Exporter(exporter.clone()),
            lease: lease.key(),
            method: "ReportStatus",
        };
        let resource = audit::resource("lease", &lease.key());
        let work = self.context.engine.command(command);
        let released = self.context.audited(caller, "ReleaseLease", resource, work);
        if let Err(status) = released.await {
            tracing::warn!(%exporter, lease = %lease.key(), error = status.message(), "lease was not released");
        }
    }

    pub(super) async fn do_status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<StatusStream, Status> {
        let caller = self.context.caller(&request, EXPORTER)?;
        self.slow_down(&caller)?;
        self.refuse_second_process(&caller, "Status").await?;
        let (number, outbox) = self.context.exporters.open_status(&caller);
        // From here on the stream says goodbye when it is dropped.
        let stream = StatusStream::new(
            Arc::clone(&self.context),
            caller.key.clone(),
            number,
            outbox,
        );
        let event = Event::Connected {
            exporter: caller.key.clone(),
            connection: number,
        };
        self.context.engine.event(event).await?;
        if self.context.stopping.is_cancelled() {
            return Err(Status::unavailable("the controller is stopping"));
        }
        Ok(stream)
    }

    pub(super) async fn do_listen(
        &self,
        request: Request<v1::ListenRequest>,
    ) -> Result<ListenStream, Status> {
        let caller = self.context.caller(&request, EXPORTER)?;
        let name = request.into_inner().lease_name;
        if name.is_empty() {
            return Err(Status::unknown("empty lease name"));
        }
        self.slow_down(&caller)?;
        names::check_length(&name)?;
        let key = Key::new(caller.key.namespace.clone(), name);
        let lease = self
            .context
            .lease(&key)
            .await?
            .ok_or_else(|| Status::unknown(format!("lease {key} not found")))?;
        if lease.exporter().as_ref() != Some(&caller.key) {
            return Err(Status::unknown("permission denied"));
        }
        Ok(self.context.exporters.listen(&key, &caller))
    }

    /// Exporters before 0.8 register at the begin of each lease, beside their open Status stream. They
    /// are known by never having reported a status. A second one is refused its Status stream.
    fn registers_for_each_lease(&self, exporter: &Key) -> bool {
        let found = self.context.view.get::<Exporter>(exporter);
        found.is_some_and(|exporter| exporter.status.exporter_status.is_empty())
    }

    /// Two processes with one credential would take each other's leases. The one that is there
    /// stays as long as it answers.
    async fn refuse_second_process(&self, caller: &Caller, call: &str) -> Result<(), Status> {
        let Some(incumbent) = self.context.exporters.incumbent(&caller.key) else {
            return Ok(());
        };
        if incumbent.same_connection(&caller.peer.probe) {
            return Ok(());
        }
        if incumbent.answers(self.context.settings.takeover_wait).await {
            let text = format!(
                "{call} refused: another process is running as exporter {} and answers; stop it first, \
                 or give this one a credential of its own",
                caller.key
            );
            tracing::warn!(exporter = %caller.key, peer = caller.peer.text(), "{text}");
            return Err(Status::already_exists(text));
        }
        tracing::warn!(exporter = %caller.key, "the process of the exporter does not answer; another one takes over");
        incumbent.close();
        Ok(())
    }
}

fn process_labels(
    labels: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Status> {
    let labels: BTreeMap<String, String> = labels
        .into_iter()
        .filter(|(key, _)| key.starts_with(PROCESS_LABEL_PREFIX))
        .collect();
    bounded("labels", labels.len(), LABELS)?;
    Ok(labels)
}

fn devices(reports: Vec<v1::DriverInstanceReport>) -> Result<Vec<Device>, Status> {
    bounded("devices", reports.len(), DEVICES)?;
    reports
        .into_iter()
        .map(|report| {
            bounded("labels of a device", report.labels.len(), LABELS)?;
            Ok(Device {
                uuid: report.uuid,
                parent_uuid: report.parent_uuid,
                labels: report.labels.into_iter().collect(),
            })
        })
        .collect()
}

/// Too large a registration must not get as far as the store: what that refuses makes the engine read
/// everything anew.
fn fits(labels: &BTreeMap<String, String>, devices: &[Device]) -> Result<(), Status> {
    let size = serde_json::to_vec(&(labels, devices)).map_or(usize::MAX, |text| text.len());
    if size <= REGISTRATION {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "the registration has {size} bytes as JSON; at most {REGISTRATION} are accepted"
    )))
}

fn bounded(what: &str, number: usize, limit: usize) -> Result<(), Status> {
    if number <= limit {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{number} {what}; at most {limit} are accepted"
    )))
}

fn status(number: i32) -> Result<ExporterStatus, Status> {
    ExporterStatus::ALL
        .into_iter()
        .find(|status| *status as i32 == number)
        .ok_or_else(|| Status::invalid_argument(format!("unknown exporter status {number}")))
}

/// Without what is too long, at the boundary of a character.
fn cut(mut text: String) -> String {
    if text.len() > TEXT {
        let mut end = TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
