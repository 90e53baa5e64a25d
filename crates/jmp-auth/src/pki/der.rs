//! The few fields of a certificate that nothing else of ours reads (RFC 5280, 4.1).

use jiff::civil::DateTime;
use jmp_types::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xa0;

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The validity of a certificate; `None` if it is malformed.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let mut outer = Reader(certificate.as_ref());
    let mut certificate = Reader(outer.element(SEQUENCE)?);
    let mut fields = Reader(certificate.element(SEQUENCE)?);
    if fields.0.first() == Some(&EXPLICIT_VERSION) {
        fields.element(EXPLICIT_VERSION)?;
    }
    fields.element(INTEGER)?; // serial number
    fields.element(SEQUENCE)?; // signature algorithm
    fields.element(SEQUENCE)?; // issuer
    let mut validity = Reader(fields.element(SEQUENCE)?);
    Some(Validity {
        from: validity.time()?,
        until: validity.time()?,
    })
}

/// The public key with its algorithm, in DER: what pins are made of. `None` if the certificate is malformed.
pub(crate) fn public_key_info(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().as_ref().to_vec())
}

struct Reader<'a>(&'a [u8]);

// === impl Reader ===

impl<'a> Reader<'a> {
    /// The content of the next element, which must have that tag.
    fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // Long form: that many bytes of length follow. Four are enough for every certificate.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let text = match *self.0.first()? {
            UTC_TIME => {
                let text = std::str::from_utf8(self.element(UTC_TIME)?).ok()?;
                // Two digits of the year: 1950 to 2049.
                let century = if text.get(..2)?.parse::<u8>().ok()? < 50 {
                    "20"
                } else {
                    "19"
                };
                format!("{century}{text}")
            }
            _ => std::str::from_utf8(self.element(GENERALIZED_TIME)?)
                .ok()?
                .to_owned(),
        };
        DateTime::strptime("%Y%m%d%H%M%SZ", text)
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|moment| moment.timestamp())
    }
}
