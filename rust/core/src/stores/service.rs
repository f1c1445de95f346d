//! The services that keep buckets: how each is reached, and with what credentials.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, resolve_bucket_region};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use serde::Deserialize;
use tokio::runtime::Handle;

use super::server_copy::{COPY_MAX, Within};
use crate::error::{Error, Kind, Result};
use crate::secret::{Secret, without_secrets};

/// A place in a bucket, in a service's own words.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSpec {
    /// The store's name.
    pub name: String,
    /// Azure's word is container.
    pub bucket: String,
    /// What every key begins with, without slashes around it.
    #[serde(default)]
    pub location: String,
    /// Whose bucket it is, and how it lets us in.
    pub service: Service,
}

/// A service, and how it lets us in.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Service {
    /// Amazon's, or one that speaks like it.
    S3 {
        /// With `http://` or `https://`.
        endpoint: String,
        /// Neither of these: the environment, the web identity, the container's or the instance's role.
        access_key: Option<Secret>,
        /// The other half of the access key.
        secret_key: Option<Secret>,
        /// Of a session that ends.
        token: Option<Secret>,
        /// Where the bucket lies.
        region: Option<String>,
        /// The address of a proxy, with `http://`.
        proxy: Option<Secret>,
        /// What the service copies in one request.
        #[serde(default = "copy_max")]
        copy_max: u64,
    },
    /// Google's.
    Gcs {
        /// Of another service than Google's own.
        endpoint: Option<String>,
        /// The text of a file of credentials. None: the environment, the machine's own account.
        credentials: Option<Secret>,
        /// Nobody logs in.
        #[serde(default)]
        anonymous: bool,
    },
    /// Microsoft's.
    Azure {
        /// Of another service than Microsoft's own.
        endpoint: Option<String>,
        /// The storage account.
        account: String,
        /// Neither of these: the environment, the machine's own identity.
        key: Option<Secret>,
        /// A signature that grants access, as a query (`sv=…&sig=…`).
        signature: Option<Secret>,
    },
}

impl BucketSpec {
    /// What the addresses of its objects begin with.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self.service {
            Service::S3 { .. } => "s3",
            Service::Gcs { .. } => "gs",
            Service::Azure { .. } => "az",
        }
    }

    /// Where the service is, as errors name it and by which two of them are told apart.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.service {
            Service::S3 { endpoint, .. } => endpoint,
            Service::Gcs { endpoint, .. } => endpoint.as_deref().unwrap_or("storage.googleapis.com"),
            Service::Azure { endpoint, account, .. } => endpoint.as_deref().unwrap_or(account),
        }
    }

    pub(super) fn refused(&self, message: &str) -> Error {
        Kind::Store { store: self.label(), message: without_secrets(message) }.into()
    }

    pub(super) fn label(&self) -> String {
        format!("'{}' ({}/{})", self.name, without_secrets(self.host()), self.bucket)
    }

    /// The client of the bucket, and what copies into it without the bytes passing here.
    pub(super) fn connect(&self, handle: &Handle) -> Result<(Arc<dyn ObjectStore>, Option<Within>)> {
        // Fails if somebody has installed one already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match &self.service {
            Service::S3 { .. } => self.connect_s3(handle),
            Service::Gcs { endpoint, credentials, anonymous } => {
                let mut builder = match credentials {
                    Some(text) => GoogleCloudStorageBuilder::new().with_service_account_key(text.reveal()),
                    None if *anonymous => GoogleCloudStorageBuilder::new(),
                    None => GoogleCloudStorageBuilder::from_env(),
                };
                if let Some(endpoint) = endpoint {
                    builder = builder.with_base_url(endpoint);
                }
                let client = builder
                    .with_bucket_name(&self.bucket)
                    .with_skip_signature(*anonymous)
                    .with_client_options(options())
                    .with_retry(retries())
                    .build();
                Ok((Arc::new(client.map_err(|error| self.refused(&error.to_string()))?), None))
            }
            Service::Azure { endpoint, account, key, signature } => {
                let mut builder = match (key, signature) {
                    (Some(key), _) => MicrosoftAzureBuilder::new().with_access_key(key.reveal()),
                    (None, Some(signature)) => MicrosoftAzureBuilder::new()
                        .with_config(object_store::azure::AzureConfigKey::SasKey, signature.reveal()),
                    (None, None) => MicrosoftAzureBuilder::from_env(),
                };
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let client = builder
                    .with_account(account)
                    .with_container_name(&self.bucket)
                    .with_client_options(options())
                    .with_retry(retries())
                    .build();
                Ok((Arc::new(client.map_err(|error| self.refused(&error.to_string()))?), None))
            }
        }
    }

    fn connect_s3(&self, handle: &Handle) -> Result<(Arc<dyn ObjectStore>, Option<Within>)> {
        let Service::S3 { endpoint, access_key, secret_key, token, region, proxy, copy_max } = &self.service
        else {
            return Err(Kind::Internal("not a bucket of S3".into()).into());
        };
        let mut options = options();
        if let Some(proxy) = proxy {
            options = options.with_proxy_url(proxy.reveal());
        }
        let region = match region {
            Some(region) => region.clone(),
            None => handle.block_on(region_of(endpoint, &self.bucket, &options)),
        };
        let mut builder = match (access_key, secret_key) {
            (Some(key), Some(secret)) => AmazonS3Builder::new()
                .with_access_key_id(key.reveal())
                .with_secret_access_key(secret.reveal()),
            (None, None) => AmazonS3Builder::from_env(),
            // Whatever else the environment holds is another's: with it somebody else would write.
            (given, _) => {
                let (there, missing) =
                    if given.is_some() { ("access_key", "secret_key") } else { ("secret_key", "access_key") };
                let message = format!(
                    "it has an {there} and no {missing}: give both, or neither for the environment's"
                );
                return Err(Kind::Plan(format!("the store {}: {message}", self.label())).into());
            }
        };
        if let Some(token) = token {
            builder = builder.with_token(token.reveal());
        }
        let client = builder
            .with_endpoint(endpoint)
            .with_bucket_name(&self.bucket)
            .with_region(&region)
            .with_virtual_hosted_style_request(false)
            .with_client_options(options.clone())
            .with_retry(retries())
            .build();
        let client = client.map_err(|error| self.refused(&error.to_string()))?;
        let within = Within::new(&client, &options, endpoint, &self.bucket, region, *copy_max)
            .map_err(|error| self.refused(&error.to_string()))?;
        Ok((Arc::new(client), Some(within)))
    }
}

fn copy_max() -> u64 {
    COPY_MAX
}

fn options() -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(Duration::from_secs(30))
        .with_timeout(Duration::from_secs(300))
        .with_pool_idle_timeout(Duration::from_secs(20))
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 4, retry_timeout: Duration::from_secs(60) }
}

async fn region_of(endpoint: &str, bucket: &str, options: &ClientOptions) -> String {
    let host = endpoint.split("://").nth(1).unwrap_or(endpoint);
    let host = host.split([':', '/']).next().unwrap_or_default();
    let Some(service) = host.strip_suffix(".amazonaws.com") else { return "us-east-1".into() };
    if let Some(region) = service.strip_prefix("s3.").or_else(|| service.strip_prefix("s3-")) {
        return region.trim_start_matches("dualstack.").to_owned();
    }
    resolve_bucket_region(bucket, options).await.unwrap_or_else(|_| "us-east-1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specs_debug_output_shows_no_secret() {
        for service in [
            r#"{"kind": "s3", "endpoint": "http://h", "access_key": "AKIA", "secret_key": "hush"}"#,
            r#"{"kind": "gcs", "credentials": "hush"}"#,
            r#"{"kind": "azure", "account": "lab", "key": "hush", "signature": "hush"}"#,
        ] {
            let text = format!(r#"{{"name": "raw", "bucket": "b", "service": {service}}}"#);
            let spec: BucketSpec = serde_json::from_str(&text).expect("valid");
            let shown = format!("{spec:?}");
            assert!(!shown.contains("AKIA") && !shown.contains("hush"), "{shown}");
        }
    }
}
