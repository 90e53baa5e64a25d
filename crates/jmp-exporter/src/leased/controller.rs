//! The exporter's end of its controller: one connection for all calls, made anew when it is lost
//! (facts: protocol 7).

use std::fmt;
use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_proto::v1::{
    DriverInstanceReport, ListenRequest, ListenResponse, RegisterRequest, ReleaseLeaseRequest,
    ReportStatusRequest, StatusRequest, StatusResponse, UnregisterRequest,
};
use jmp_wire::backoff::Backoff;
use jmp_wire::connection::Connection;
use jmp_wire::endpoint::{
    CONTROLLER_KEEP_ALIVE, ConnectError, ConnectFailure, Connector, Credentials, CredentialsError,
    Endpoint,
};
use tokio::sync::{Mutex, watch};
use tonic::{Code, Status, Streaming};

/// How long a call may take (facts: protocol 7.3).
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Where the controller is and who calls.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// The controller.
    pub endpoint: Endpoint,
    /// The exporter.
    pub credentials: Credentials,
    /// How the certificates of the controller and of routers are checked.
    pub connector: Connector,
}

/// Why a call to the controller failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It was not reached.
    Connect(ConnectError),
    /// It refused, or the connection broke.
    Status(Status),
}

/// The controller, as this exporter sees it.
pub(crate) struct Controller {
    endpoint: Endpoint,
    connector: Connector,
    metadata: HeaderMap,
    connection: Mutex<Option<Connection>>,
    /// Counts how often the controller was found again; wakes those who pause.
    found: watch::Sender<u64>,
}

// === impl CallError ===

impl CallError {
    /// The status, if the controller was reached.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            Self::Connect(_) => None,
        }
    }

    /// The code, if the controller was reached.
    pub fn code(&self) -> Option<Code> {
        self.status().map(Status::code)
    }

    /// Whether somebody at the other end has decided on the answer.
    pub fn was_answered(&self) -> bool {
        !matches!(
            self.code(),
            None | Some(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        )
    }

    /// Whether only a person can do something about it, as far as can be told: the credential is
    /// refused, or the certificate.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(
                error.reason,
                ConnectFailure::Certificate(_) | ConnectFailure::Trust(_)
            ),
            Self::Status(status) => match status.code() {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Unimplemented => true,
                // What 0.9's controller says of tokens (facts: protocol 7.1).
                Code::Unknown => status.message().contains("token"),
                _ => false,
            },
        }
    }

    /// What a person could do.
    pub fn advice(&self) -> Option<&'static str> {
        let status = self.status()?;
        let text = status.message();
        Some(match status.code() {
            _ if text.contains("token is expired") => {
                "the exporter's token has expired; get a new one and put it into its configuration"
            }
            Code::Unauthenticated => {
                "the exporter's token is not accepted; check `token` in its configuration, or get \
                 a new one"
            }
            Code::Unknown if text.contains("token") => {
                "the exporter's token is not accepted; check `token` in its configuration, or get \
                 a new one"
            }
            Code::PermissionDenied | Code::InvalidArgument => {
                "check that `metadata.name`, `metadata.namespace` and `token` belong together"
            }
            Code::NotFound => "the controller does not know this exporter; create it there",
            Code::Unimplemented => "is this the address of a controller?",
            _ => return None,
        })
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(formatter),
            Self::Status(status) => {
                write!(
                    formatter,
                    "the controller says {:?}: {}",
                    status.code(),
                    status.message()
                )?;
                match self.advice() {
                    Some(advice) => write!(formatter, "; {advice}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

type Api = ControllerServiceClient<Connection>;

// === impl Controller ===

impl Controller {
    /// Connects with the first call.
    pub fn new(options: ControllerOptions) -> Result<Self, CredentialsError> {
        Ok(Self {
            metadata: options.credentials.metadata()?,
            endpoint: options.endpoint,
            connector: options.connector,
            connection: Mutex::new(None),
            found: watch::Sender::new(0),
        })
    }

    /// Makes connections to routers, too.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Where it is, for people.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits before the next attempt, but no longer than until the controller is found again.
    pub async fn pause(&self, backoff: &mut Backoff) {
        let mut found = self.found.subscribe();
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            _ = found.changed() => {}
        }
    }

    /// Wakes those who pause.
    pub fn found_again(&self) {
        self.found.send_modify(|count| *count += 1);
    }

    /// One connection for everything: the controller tells two processes with one credential
    /// apart by their connections, so a second one is made only when the first is gone.
    async fn connection(&self) -> Result<Connection, CallError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|held| !held.is_closed()) {
            return Ok(connection.clone());
        }
        let connecting =
            self.connector
                .connect(&self.endpoint, self.metadata.clone(), CONTROLLER_KEEP_ALIVE);
        let connection = connecting.await.map_err(CallError::Connect)?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// Makes a call within its time.
    async fn call<T, F>(&self, call: impl FnOnce(Api) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let connection = self.connection().await?;
        let api = Api::with_origin(connection.clone(), connection.origin());
        match tokio::time::timeout(CALL_LIMIT, call(api)).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "no answer within {} s",
                CALL_LIMIT.as_secs()
            ))
            .into()),
        }
    }

    pub async fn register(&self, reports: Vec<DriverInstanceReport>) -> Result<(), CallError> {
        let request = RegisterRequest {
            reports,
            ..RegisterRequest::default()
        };
        self.call(|mut api| async move { api.register(request).await })
            .await
            .map(|_| ())
    }

    pub async fn unregister(&self, reason: &str) -> Result<(), CallError> {
        let request = UnregisterRequest {
            reason: reason.to_owned(),
        };
        self.call(|mut api| async move { api.unregister(request).await })
            .await
            .map(|_| ())
    }

    pub async fn report_status(&self, request: ReportStatusRequest) -> Result<(), CallError> {
        self.call(|mut api| async move { api.report_status(request).await })
            .await
            .map(|_| ())
    }

    pub async fn release_lease(&self, name: &str) -> Result<(), CallError> {
        let request = ReleaseLeaseRequest {
            name: name.to_owned(),
        };
        self.call(|mut api| async move { api.release_lease(request).await })
            .await
            .map(|_| ())
    }

    /// What the controller wants of this exporter, from now on. There is no limit for the first
    /// message: some controllers answer a stream with its first message only.
    pub async fn status(&self) -> Result<Streaming<StatusResponse>, CallError> {
        let connection = self.connection().await?;
        let mut api = Api::with_origin(connection.clone(), connection.origin());
        Ok(api.status(StatusRequest {}).await?.into_inner())
    }

    /// The tunnels that clients of a lease ask for, from now on; no limit, as above.
    pub async fn listen(&self, lease: &str) -> Result<Streaming<ListenResponse>, CallError> {
        let connection = self.connection().await?;
        let mut api = Api::with_origin(connection.clone(), connection.origin());
        let request = ListenRequest {
            lease_name: lease.to_owned(),
        };
        Ok(api.listen(request).await?.into_inner())
    }
}
