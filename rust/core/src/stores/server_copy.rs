//! Copies that an S3 service makes by itself, from one of its buckets to another. The library copies within one bucket only.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{CONTENT_LENGTH, HeaderValue, InvalidHeaderValue};
use http::{Method, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// S3 copies no more than this in one request. Its largest objects are ten thousand such parts.
pub const COPY_MAX: u64 = 5 << 30;
/// Parts of one object that the service copies at a time.
const PARTS_AT_ONCE: usize = 4;
/// What a service may take for that.
const COPY_TIME: Duration = Duration::from_secs(900);
/// What a key may hold as it is, by the rules of the signature.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Copies into one bucket.
#[derive(Debug)]
pub struct Within {
    client: HttpClient,
    bucket: AmazonS3,
    region: String,
    /// The endpoint and the bucket.
    url: String,
    /// What is copied in one request.
    most: u64,
    off: AtomicBool,
}

/// An object in a bucket of the service.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    pub bucket: &'a str,
    pub key: &'a Path,
    /// Its tag; the service copies nothing that has another by now.
    pub etag: Option<&'a str>,
}

/// A part of an object that is copied in several.
#[derive(Debug)]
struct Part<'a> {
    upload: &'a str,
    /// From 1.
    number: u64,
    bytes: Range<u64>,
}

/// What a service answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is copied, and has this tag.
    Copied(Option<String>),
    /// It does not copy, or these credentials may not let it: the bytes have to pass here.
    Refused,
    NotFound,
    Changed,
    /// It may do so when it is asked again.
    Failed(String),
}

impl Within {
    pub fn new(
        bucket: &AmazonS3,
        options: &ClientOptions,
        endpoint: &str,
        name: &str,
        region: String,
        most: u64,
    ) -> object_store::Result<Self> {
        // While a service copies a large object it may be silent.
        let options = options.clone().with_read_timeout(COPY_TIME).with_timeout(COPY_TIME);
        Ok(Self {
            client: ReqwestConnector::default().connect(&options)?,
            bucket: bucket.clone(),
            region,
            url: format!("{}/{name}", endpoint.trim_end_matches('/')),
            most: most.max(1),
            off: AtomicBool::new(false),
        })
    }

    /// True if it makes no sense to ask: the service refused, or its copies could not be proved.
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    pub fn turn_off(&self) {
        self.off.store(true, Ordering::Relaxed);
    }

    /// True if an object of this size is copied by several requests, between which it may be replaced.
    pub fn is_in_parts(&self, size: u64) -> bool {
        size > self.most
    }

    pub async fn copy(&self, from: From<'_>, size: u64, to: &Path) -> Answer {
        if self.is_in_parts(size) {
            self.copy_parts(from, size, to).await
        } else {
            self.ask(from, to, None).await
        }
    }

    /// The object appears when all of its parts are copied; if one is not, the service forgets the others.
    async fn copy_parts(&self, from: From<'_>, size: u64, to: &Path) -> Answer {
        let upload = match self.bucket.create_multipart(to).await {
            Ok(upload) => upload,
            Err(error) => return failed(&error),
        };
        let answer = match self.ask_for_parts(from, size, to, &upload).await {
            Ok(parts) => match self.bucket.complete_multipart(to, &upload, parts).await {
                Ok(done) => return Answer::Copied(done.e_tag),
                Err(error) => failed(&error),
            },
            Err(answer) => answer,
        };
        let _ = self.bucket.abort_multipart(to, &upload).await;
        answer
    }

    async fn ask_for_parts(
        &self,
        from: From<'_>,
        size: u64,
        to: &Path,
        upload: &str,
    ) -> Result<Vec<PartId>, Answer> {
        let numbers: Vec<u64> = (0..size.div_ceil(self.most)).collect();
        let mut parts = Vec::new();
        for some in numbers.chunks(PARTS_AT_ONCE) {
            let asked = some.iter().map(|number| {
                let bytes = number * self.most..size.min((number + 1) * self.most);
                self.ask(from, to, Some(Part { upload, number: number + 1, bytes }))
            });
            // All are waited for, whatever one of them says: a part that comes after the upload was given up stays for good.
            for answer in join_all(asked).await {
                match answer {
                    Answer::Copied(Some(etag)) => parts.push(PartId { content_id: etag }),
                    Answer::Copied(None) => return Err(Answer::Refused),
                    other => return Err(other),
                }
            }
        }
        Ok(parts)
    }

    async fn ask(&self, from: From<'_>, to: &Path, part: Option<Part<'_>>) -> Answer {
        let request = match self.request(from, to, part).await {
            Ok(request) => request,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let status = response.status();
        match response.into_body().bytes().await {
            Ok(body) => read(status, &String::from_utf8_lossy(&body)),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    async fn request(
        &self,
        from: From<'_>,
        to: &Path,
        part: Option<Part<'_>>,
    ) -> Result<HttpRequest, Box<dyn std::error::Error>> {
        let source = format!("{}/{}", from.bucket, encoded(from.key));
        let mut uri = format!("{}/{}", self.url, encoded(to));
        if let Some(Part { upload, number, .. }) = &part {
            uri = format!("{uri}?partNumber={number}&uploadId={}", utf8_percent_encode(upload, KEY));
        }
        let mut request = http::Request::builder()
            .method(Method::PUT)
            .uri(uri)
            .header(CONTENT_LENGTH, 0)
            .header("x-amz-copy-source", header(&source)?)
            .body(HttpRequestBody::empty())?;
        if let Some(etag) = from.etag {
            request.headers_mut().insert("x-amz-copy-source-if-match", header(etag)?);
        }
        if let Some(Part { bytes, .. }) = &part {
            let range = format!("bytes={}-{}", bytes.start, bytes.end - 1);
            request.headers_mut().insert("x-amz-copy-source-range", header(&range)?);
        }
        let credentials = self.bucket.credentials().get_credential().await?;
        AwsAuthorizer::new(&credentials, "s3", &self.region).try_authorize(&mut request, None)?;
        Ok(request)
    }
}

/// What the library says of an upload, as an answer.
fn failed(error: &object_store::Error) -> Answer {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotImplemented { .. } => Answer::Refused,
        _ => Answer::Failed(error.to_string()),
    }
}

fn header(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(text)
}

fn encoded(key: &Path) -> String {
    utf8_percent_encode(key.as_ref(), KEY).to_string()
}

fn read(status: StatusCode, body: &str) -> Answer {
    let code = element(body, "Code").unwrap_or_default();
    if status.is_success() {
        // A copy that fails after it has begun is told in the body of an answer that says all is well.
        return match element(body, "ETag") {
            Some(etag) => Answer::Copied(Some(etag.replace("&quot;", "\"").replace("&#34;", "\""))),
            None if body.contains("<CopyObjectResult") || body.contains("<CopyPartResult") => {
                Answer::Copied(None)
            }
            None => Answer::Failed(format!("it answered {status} and then: {code}")),
        };
    }
    match status {
        StatusCode::NOT_FOUND if code == "NoSuchKey" => Answer::NotFound,
        StatusCode::PRECONDITION_FAILED => Answer::Changed,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Answer::Failed(format!("{status}: {code}"))
        }
        _ if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED => Answer::Refused,
        _ => Answer::Failed(format!("{status}: {code}")),
    }
}

/// The text of the first element of this name.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let from = xml.find(&open)? + open.len();
    Some(xml[from..].split_once(&close)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_by_its_body_too() {
        let done = "<CopyObjectResult><ETag>&quot;ab&quot;</ETag></CopyObjectResult>";
        assert_eq!(read(StatusCode::OK, done), Answer::Copied(Some("\"ab\"".into())));
        let failed = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>";
        assert!(
            matches!(read(StatusCode::OK, failed), Answer::Failed(said) if said.contains("InternalError"))
        );
        assert!(matches!(read(StatusCode::OK, ""), Answer::Failed(_)));
        assert_eq!(read(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"), Answer::Refused);
        assert!(matches!(read(StatusCode::SERVICE_UNAVAILABLE, ""), Answer::Failed(_)));
    }

    #[test]
    fn keys_are_encoded_as_signatures_want_it() {
        let key = Path::parse("a b/ü+%1'.x~_-").expect("a key");
        assert_eq!(encoded(&key), "a%20b/%C3%BC%2B%251%27.x~_-");
    }
}
