//! A connected client.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use futures::{Stream, StreamExt};
use jmp_driver::MethodKind;
use jmp_driver::node::{ArgumentInfo, MethodInfo};
use jmp_proto::jmp::v1 as describe;
use jmp_proto::jmp::v1::describe_service_client::DescribeServiceClient;
use jmp_proto::v1;
use jmp_wire::connection::Connection;
use tonic::Code;
use uuid::Uuid;

use crate::allow::AllowList;
use crate::dial::Dialer;
use crate::error::{Error, Result};
use crate::remote::service;
use crate::tree::{self, Device};

/// A connection to an exporter session and the tree of its devices. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    root: Device,
    labels: BTreeMap<String, String>,
    motd: String,
}

/// What an exporter says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of the status on the wire; see the enum `ExporterStatus`.
    pub number: i32,
    /// Its name without prefix, for example `LEASE_READY`.
    pub name: String,
    /// Text for people.
    pub message: String,
    /// Rises with each update.
    pub version: u64,
}

/// A line of the session log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.
    pub severity: String,
    /// The text, with the name of the logger in front.
    pub message: String,
    /// Who wrote it: `driver`, `beforeLease`, `afterLease` or `system`.
    pub source: &'static str,
    /// When it was written, if the exporter says so.
    pub time: Option<SystemTime>,
}

// === impl Client ===

impl Client {
    /// Connects and reads the device tree. Devices are admitted by [`AllowList::effective`].
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached, its report makes no sense or the allow list cannot be
    /// read.
    pub async fn connect(dialer: Dialer) -> Result<Self> {
        Self::connect_with(dialer, &AllowList::effective()?).await
    }

    /// Connects and reads the device tree.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached or its report makes no sense.
    pub async fn connect_with(dialer: Dialer, allow: &AllowList) -> Result<Self> {
        let connection = dialer.connect().await?;
        let report = service(&connection)
            .get_report(())
            .await
            .map_err(|status| Error::refused("asking for the device tree", status))?
            .into_inner();
        let root = tree::build(report.reports, &connection, allow)?;
        Ok(Self {
            connection,
            root,
            labels: report.labels.into_iter().collect(),
            motd: report.motd,
        })
    }

    /// The root of the device tree.
    pub fn root(&self) -> &Device {
        &self.root
    }

    /// A device by its dot-separated path.
    ///
    /// # Errors
    ///
    /// If there is none; the message lists what there is.
    pub fn device(&self, path: &str) -> Result<&Device> {
        self.root.find(path)
    }

    /// Labels of the session.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Text that the exporter wants people to read.
    pub fn motd(&self) -> &str {
        &self.motd
    }

    /// The connection, for calls that this type does not have.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks for the exporter's status. `None` if the exporter is too old to tell, which counts
    /// as ready.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn status(&self) -> Result<Option<Status>> {
        match service(&self.connection)
            .get_status(v1::GetStatusRequest {})
            .await
        {
            Ok(response) => Ok(Some(response.into_inner().into())),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(Error::refused("asking for the status", status)),
        }
    }

    /// Tells the exporter that the session is over. Returns its answer and text; `None` if the
    /// exporter is too old to be told.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn end_session(&self) -> Result<Option<(bool, String)>> {
        match service(&self.connection)
            .end_session(v1::EndSessionRequest {})
            .await
        {
            Ok(response) => {
                let response = response.into_inner();
                Ok(Some((
                    response.success,
                    response.message.unwrap_or_default(),
                )))
            }
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(Error::refused("ending the session", status)),
        }
    }

    /// Brings all devices into their first state.
    ///
    /// # Errors
    ///
    /// UNIMPLEMENTED for exporters that cannot, and what the drivers say.
    pub async fn reset(&self) -> Result<()> {
        service(&self.connection)
            .reset(v1::ResetRequest {})
            .await
            .map(|_| ())
            .map_err(|status| Error::refused("resetting the devices", status))
    }

    /// Follows the session log, from its beginning as far as the exporter keeps it.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached. The stream ends with the session.
    pub async fn logs(&self) -> Result<impl Stream<Item = Result<LogLine>> + Send + Unpin + use<>> {
        let lines = service(&self.connection)
            .log_stream(())
            .await
            .map_err(|status| Error::refused("following the log", status))?;
        Ok(lines.into_inner().map(|line| {
            line.map(LogLine::from)
                .map_err(|status| Error::refused("following the log", status))
        }))
    }

    /// What each driver can be asked, if the exporter tells; shipped ones do not.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn describe(&self) -> Result<Option<HashMap<Uuid, Vec<MethodInfo>>>> {
        let mut service =
            DescribeServiceClient::with_origin(self.connection.clone(), self.connection.origin());
        match service.describe(describe::DescribeRequest {}).await {
            Ok(response) => {
                let drivers = response.into_inner().drivers.into_iter();
                Ok(Some(
                    drivers
                        .filter_map(|driver| {
                            let methods = driver.methods.into_iter().filter_map(method);
                            Some((driver.uuid.parse().ok()?, methods.collect()))
                        })
                        .collect(),
                ))
            }
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(Error::refused("asking for the methods", status)),
        }
    }
}

fn method(method: describe::Method) -> Option<MethodInfo> {
    let kind = match method.kind() {
        describe::MethodKind::Unary => MethodKind::Unary,
        describe::MethodKind::Streaming => MethodKind::Streaming,
        describe::MethodKind::ByteStream => MethodKind::ByteStream,
        describe::MethodKind::Unspecified => return None,
    };
    let arguments = method.arguments.into_iter();
    Some(MethodInfo {
        name: method.name,
        kind,
        documentation: method.documentation,
        arguments: arguments
            .map(|argument| ArgumentInfo {
                name: argument.name,
                type_name: argument.r#type,
                optional: argument.optional,
                variadic: argument.variadic,
            })
            .collect(),
    })
}

impl From<v1::GetStatusResponse> for Status {
    fn from(response: v1::GetStatusResponse) -> Self {
        let name = v1::ExporterStatus::try_from(response.status).map_or_else(
            |_| format!("STATUS_{}", response.status),
            |status| {
                let name = status.as_str_name();
                name.trim_start_matches("EXPORTER_STATUS_").to_owned()
            },
        );
        Self {
            number: response.status,
            name,
            message: response.message.unwrap_or_default(),
            version: response.status_version,
        }
    }
}

impl From<v1::LogStreamResponse> for LogLine {
    fn from(line: v1::LogStreamResponse) -> Self {
        let source = match line.source() {
            v1::LogSource::Driver => "driver",
            v1::LogSource::BeforeLeaseHook => "beforeLease",
            v1::LogSource::AfterLeaseHook => "afterLease",
            v1::LogSource::System | v1::LogSource::Unspecified => "system",
        };
        Self {
            severity: line.severity,
            message: line.message,
            source,
            time: line.timestamp.and_then(|time| time.try_into().ok()),
        }
    }
}
