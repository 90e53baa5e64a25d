//! From a call's headers to what its caller presents (facts: controller 5.1, 5.2; protocol 7.1).
//!
//! Pure: header pairs in, [`Presented`] or a [`MetadataError`] with the code that shipped peers expect out. The
//! steps of a controller are [`bearer`], [`crate::IdentityVerifier::verify`], [`Attributes::read`] and
//! [`Attributes::permits`], in this order, so that a caller with several faults is told of the same one as elsewhere.

use crate::{IdentityKind, Secret, Subject, TokenError};

/// The metadata that names the kind of the caller.
pub const KIND: &str = "jumpstarter-kind";
/// The metadata that names the caller's namespace.
pub const NAMESPACE: &str = "jumpstarter-namespace";
/// The metadata that names the caller.
pub const NAME: &str = "jumpstarter-name";
/// The metadata with the token.
pub const AUTHORIZATION: &str = "authorization";

/// The longest namespace or name, in bytes, as in a cluster.
const MAX_NAME_BYTES: usize = 253;
const BEARER: &str = "Bearer ";

/// Status codes of refused callers, by their gRPC names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// `UNKNOWN`: what shipped controllers answer to a bad token; its text reaches the user.
    Unknown,
    /// `INVALID_ARGUMENT`.
    InvalidArgument,
    /// `PERMISSION_DENIED`.
    PermissionDenied,
    /// `UNAUTHENTICATED`.
    Unauthenticated,
}

/// What a caller presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The token, not verified. May be empty.
    pub token: Secret,
    /// Who the caller says it is.
    pub attributes: Attributes,
}

/// Who a caller says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Kind.
    pub kind: IdentityKind,
    /// Namespace.
    pub namespace: String,
    /// Name; callers with a token of another issuer may leave it out.
    pub name: Option<String>,
}

/// Why a caller is refused before anybody looks at objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// There is no token.
    #[error("missing authorization header")]
    MissingAuthorization,
    /// There are several tokens.
    #[error("multiple authorization headers")]
    SeveralAuthorizations,
    /// The header is not `Bearer TOKEN`.
    #[error("malformed authorization header")]
    MalformedAuthorization,
    /// A required attribute is missing.
    #[error("missing metadata: {0}")]
    Missing(&'static str),
    /// An attribute is there more than once.
    #[error("multiple metadata: {0}")]
    Several(&'static str),
    /// An attribute is not a text, is too long or holds control characters.
    #[error("malformed metadata: {0}")]
    Malformed(&'static str),
    /// The kind is none of those that exist.
    #[error("object kind mismatch: jumpstarter-kind must be Client or Exporter")]
    UnknownKind,
    /// The caller's kind may not call this.
    #[error("object kind mismatch: this call is for {expected}, not for {presented}", expected = expected.metadata_value(), presented = presented.metadata_value())]
    KindMismatch {
        /// Whom the call is for.
        expected: IdentityKind,
        /// Who called.
        presented: IdentityKind,
    },
    /// The name differs from the one that follows from the token of another issuer.
    #[error("resource name mismatch")]
    NameMismatch,
    /// The token is somebody else's.
    #[error("permission denied for {kind} {namespace}/{name}", kind = kind.word())]
    Denied {
        /// Who the caller says it is.
        kind: IdentityKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

// === impl MetadataError ===

impl MetadataError {
    /// The code that shipped peers expect.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::MissingAuthorization => Code::Unauthenticated,
            Self::Denied { .. } => Code::PermissionDenied,
            _ => Code::InvalidArgument,
        }
    }
}

impl TokenError {
    /// The code that shipped peers of a controller expect. (A router answers `UNAUTHENTICATED` to everything.)
    #[must_use]
    pub fn code(&self) -> Code {
        Code::Unknown
    }
}

// === impl Presented ===

impl Presented {
    /// Token and attributes of a call. Names of headers are in lower case, as HTTP/2 has them.
    ///
    /// # Errors
    ///
    /// See [`bearer`] and [`Attributes::read`], in this order.
    pub fn read<'a, H>(headers: H) -> Result<Self, MetadataError>
    where
        H: IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
    {
        Ok(Self {
            token: bearer(headers.clone())?,
            attributes: Attributes::read(headers)?,
        })
    }
}

/// The token of a call. A router looks at nothing else.
///
/// # Errors
///
/// If there is no `authorization`, several, or not one of the form `Bearer TOKEN` (the scheme in any case).
pub fn bearer<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Secret, MetadataError> {
    let value = only(headers, AUTHORIZATION)
        .map_err(|_| MetadataError::SeveralAuthorizations)?
        .ok_or(MetadataError::MissingAuthorization)?;
    let value = std::str::from_utf8(value).map_err(|_| MetadataError::MalformedAuthorization)?;
    let scheme = value
        .get(..BEARER.len())
        .filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
    match scheme {
        Some(scheme) => Ok(Secret::new(&value[scheme.len()..])),
        None => Err(MetadataError::MalformedAuthorization),
    }
}

// === impl Attributes ===

impl Attributes {
    /// Who the caller says it is.
    ///
    /// # Errors
    ///
    /// If kind or namespace is missing, or one of the three is there more than once, unknown or malformed.
    pub fn read<'a, H>(headers: H) -> Result<Self, MetadataError>
    where
        H: IntoIterator<Item = (&'a str, &'a [u8])> + Clone,
    {
        let namespace = text(headers.clone(), NAMESPACE)?;
        let kind = text(headers.clone(), KIND)?;
        let name = text(headers, NAME)?;
        let kind = kind.ok_or(MetadataError::Missing(KIND))?;
        Ok(Self {
            namespace: namespace.ok_or(MetadataError::Missing(NAMESPACE))?,
            kind: IdentityKind::from_metadata_value(&kind).ok_or(MetadataError::UnknownKind)?,
            name,
        })
    }

    /// Refuses callers of another kind.
    ///
    /// # Errors
    ///
    /// If the kinds differ.
    pub fn require_kind(&self, expected: IdentityKind) -> Result<(), MetadataError> {
        if self.kind == expected {
            return Ok(());
        }
        Err(MetadataError::KindMismatch {
            expected,
            presented: self.kind,
        })
    }

    /// The caller's name, which those with a token of this controller must say.
    ///
    /// # Errors
    ///
    /// If it is missing.
    pub fn required_name(&self) -> Result<&str, MetadataError> {
        self.name.as_deref().ok_or(MetadataError::Missing(NAME))
    }

    /// The name of a caller whom another issuer vouches for. That of a person is derived from the user's name, and if
    /// one was said it must be that one; a service account says which client it is (facts: controller 5.2).
    ///
    /// # Errors
    ///
    /// If another name was said, or none and none can be derived.
    pub fn external_name(&self, user_name: &str) -> Result<String, MetadataError> {
        if service_account(user_name).is_some() {
            return self.required_name().map(str::to_owned);
        }
        let derived = name_of_user(user_name);
        match self.name.as_deref() {
            None if derived.is_empty() => Err(MetadataError::NameMismatch),
            Some(said) if said != derived => Err(MetadataError::NameMismatch),
            _ => Ok(derived),
        }
    }

    /// Whether the subject of a verified token may call under these attributes: it must be the same identity.
    /// Administrators and routers belong to no namespace; what they say there is what they ask about.
    ///
    /// The caller still has to compare the identifier of the object.
    ///
    /// # Errors
    ///
    /// If the name is missing, or the token is somebody else's.
    pub fn permits(&self, subject: &Subject) -> Result<(), MetadataError> {
        let name = self.required_name()?;
        let same_namespace = !subject.kind.is_namespaced() || subject.namespace == self.namespace;
        if subject.kind == self.kind && subject.name == name && same_namespace {
            return Ok(());
        }
        Err(MetadataError::Denied {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        })
    }
}

/// `NAMESPACE:ACCOUNT` of `PROVIDER:system:serviceaccount:NAMESPACE:ACCOUNT`.
fn service_account(user_name: &str) -> Option<&str> {
    let (_provider, user) = user_name.split_once(':')?;
    let account = user.strip_prefix("system:serviceaccount:")?;
    (account.split(':').filter(|part| !part.is_empty()).count() == 2
        && account.matches(':').count() == 1)
        .then_some(account)
}

/// The name of the client for a user of another issuer: what follows the first `:` (of a service account: its
/// namespace and name), in lower case, everything but letters, digits and `-` becoming one `-`, without these at the
/// ends, at most 63 characters.
#[must_use]
pub fn name_of_user(user_name: &str) -> String {
    let user = service_account(user_name)
        .or_else(|| Some(user_name.split_once(':')?.1))
        .unwrap_or(user_name);
    let mut name = String::new();
    for character in user.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let mut name = name.trim_matches('-').to_owned();
    name.truncate(63);
    name.trim_end_matches('-').to_owned()
}

/// The only value of a header.
fn only<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    wanted: &str,
) -> Result<Option<&'a [u8]>, ()> {
    let mut values = headers
        .into_iter()
        .filter(|(name, _)| *name == wanted)
        .map(|(_, value)| value);
    let first = values.next();
    match values.next() {
        Some(_) => Err(()),
        None => Ok(first),
    }
}

/// The only value of an attribute; empty is missing.
fn text<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    wanted: &'static str,
) -> Result<Option<String>, MetadataError> {
    let value = only(headers, wanted).map_err(|()| MetadataError::Several(wanted))?;
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).map_err(|_| MetadataError::Malformed(wanted))?;
    if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(MetadataError::Malformed(wanted));
    }
    Ok(Some(text.to_owned()))
}

/// Whatever headers say: no panic, and what is accepted keeps its promises. Each line of the input is one header,
/// name and value separated by `:`.
pub fn fuzz_metadata(data: &[u8]) {
    let headers: Vec<(&str, &[u8])> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((
                std::str::from_utf8(&line[..colon]).ok()?,
                &line[colon + 1..],
            ))
        })
        .collect();
    if let Ok(presented) = Presented::read(headers.iter().copied()) {
        let attributes = presented.attributes;
        assert!(!attributes.namespace.is_empty() && attributes.namespace.len() <= MAX_NAME_BYTES);
        let count = headers
            .iter()
            .filter(|(name, _)| *name == AUTHORIZATION)
            .count();
        assert_eq!(count, 1, "several tokens were accepted");
        if let Ok(name) = attributes.external_name(presented.token.expose()) {
            assert!(name.len() <= 63 && !name.is_empty());
        }
    }
}
