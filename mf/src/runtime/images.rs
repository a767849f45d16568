//! Versions in containers: images `flack:<version>`. A version is made from the image that compose has built, with its
//! variables in the image, so that instances of compose with this tag have them, too.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::errors::Error;
use bollard::models::{ContainerConfig, ContainerCreateBody, ImageConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, UploadToContainerOptionsBuilder,
};
use chrono::{DateTime, Utc};
use serde_json::json;

use super::containers::{Containers, VERSION_LABEL, engine, failed};
use crate::builds::{Build, WORKSPACE_VERSION};
use crate::failure::{Failure, Result};

const REVISION_LABEL: &str = "org.opencontainers.image.revision";
/// The variables of a version, as JSON.
const ENV_LABEL: &str = "flack.version-env";
const RELEASE_LABEL: &str = "flack.release";
/// The program that is all programs of Flack.
const PROGRAM_FOLDER: &str = "/usr/local/bin";
const PROGRAM: &str = "flack";

impl Containers {
    /// Returns the image that compose has built. The steps of a start always have it.
    async fn base_image(&self) -> Result<String> {
        let containers = self.all().await?;
        let missing = || failure!(Unavailable, "the project {} has no image yet: start it with mfup", self.project);
        let step = containers.iter().find(|container| container.is_step()).ok_or_else(missing)?;
        // As it was started: the list has the digest instead, once the tag is of another image.
        let inspected = self.inspect(&step.id).await.map_err(|error| failed("inspect a container", &error))?;
        inspected.config.and_then(|config| config.image).ok_or_else(missing)
    }

    /// Returns which of these images the engine does not have.
    pub async fn missing_images(images: impl Iterator<Item = &str>) -> Result<Vec<String>> {
        let docker = engine().await?;
        let mut missing = Vec::new();
        for image in images {
            if docker.inspect_image(image).await.is_err() {
                missing.push(image.to_owned());
            }
        }
        Ok(missing)
    }

    /// Returns the name of the image of a version.
    async fn tagged(&self, version: &str) -> Result<String> {
        let base = self.base_image().await?;
        if version == WORKSPACE_VERSION {
            return Ok(base);
        }
        Ok(format!("{}:{version}", repository(&base)))
    }

    pub(super) async fn image_of(&self, build: &Build) -> Result<String> {
        self.tagged(&build.version).await
    }

    pub(super) async fn image_config(&self, image: &str) -> Result<ImageConfig> {
        let inspected = self.docker.inspect_image(image).await;
        let inspected = inspected.map_err(|error| failed(&format!("inspect the image {image}"), &error))?;
        Ok(inspected.config.unwrap_or_default())
    }

    pub async fn build(&self, version: &str) -> Result<Build> {
        let image = self.tagged(version).await?;
        match self.docker.inspect_image(&image).await {
            Ok(inspected) => {
                let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
                let built = inspected.created.and_then(|created| created.parse().ok());
                Ok(build_of(version.to_owned(), built, &labels))
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                let known: Vec<String> = self.builds().await?.into_iter().map(|build| build.version).collect();
                Err(failure!(
                    Usage,
                    "there is no version {version} (the image {image}); versions are {}. Build it: mfbuild --version \
                     {version}",
                    known.join(", ")
                ))
            }
            Err(error) => Err(failed(&format!("inspect the image {image}"), &error)),
        }
    }

    /// Returns all versions: that of compose first, then the newest.
    pub async fn builds(&self) -> Result<Vec<Build>> {
        let base = self.base_image().await?;
        let filters = HashMap::from([("reference", vec![repository(&base)])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.docker.list_images(Some(options)).await.map_err(|error| failed("list images", &error))?;
        let mut builds = vec![self.build_of_base(&base).await?];
        let mut others = Vec::new();
        for image in images {
            let built = DateTime::from_timestamp(image.created, 0);
            let tags = image.repo_tags.iter().filter_map(|tag| tag.rsplit_once(':'));
            // Other tags are those of compose's images.
            let version =
                tags.map(|(_, tag)| tag).find(|tag| image.labels.get(VERSION_LABEL).is_some_and(|v| v == tag));
            others.extend(version.map(|version| build_of(version.to_owned(), built, &image.labels)));
        }
        others.retain(|build| build.version != WORKSPACE_VERSION);
        others.sort_by_key(|build| std::cmp::Reverse(build.built));
        builds.extend(others);
        Ok(builds)
    }

    async fn build_of_base(&self, base: &str) -> Result<Build> {
        let inspected = self.docker.inspect_image(base).await;
        let inspected = inspected.map_err(|error| failed(&format!("inspect the image {base}"), &error))?;
        let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
        let built = inspected.created.and_then(|created| created.parse().ok());
        Ok(build_of(WORKSPACE_VERSION.to_owned(), built, &labels))
    }

    /// Makes the image of a version: the image of compose with the variables of the version, and with another program
    /// if one is given.
    pub async fn install(&self, build: &Build, program: Option<&Path>) -> Result<String> {
        let (base, image) = (self.base_image().await?, self.tagged(&build.version).await?);
        let cannot = |error: Error| failed(&format!("make the image {image}"), &error);
        let mut env: Vec<String> = build.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.push(format!("FLACK_VERSION={}", build.version));
        env.extend(build.commit.iter().map(|commit| format!("FLACK_COMMIT={commit}")));
        let mut labels = HashMap::from([
            (VERSION_LABEL.to_owned(), build.version.clone()),
            (ENV_LABEL.to_owned(), json!(build.env).to_string()),
            (RELEASE_LABEL.to_owned(), build.release.to_string()),
        ]);
        labels.extend(build.commit.iter().map(|commit| (REVISION_LABEL.to_owned(), commit.clone())));
        let body = ContainerCreateBody {
            image: Some(base),
            env: Some(env),
            labels: Some(labels),
            ..ContainerCreateBody::default()
        };
        let id = self.docker.create_container(None, body).await.map_err(cannot)?.id;
        let made = async {
            if let Some(program) = program {
                let options = UploadToContainerOptionsBuilder::default().path(PROGRAM_FOLDER).build();
                let archive = bollard::body_full(archive(program)?.into());
                self.docker.upload_to_container(&id, Some(options), archive).await.map_err(cannot)?;
            }
            let (repository, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
            let options = CommitContainerOptionsBuilder::default().container(&id).repo(repository).tag(tag).build();
            self.docker.commit_container(options, ContainerConfig::default()).await.map_err(cannot)
        };
        let made = made.await;
        self.remove(&id).await?;
        made.map(|_| image)
    }

    /// Returns the images of the versions, without that of compose.
    pub async fn images(&self) -> Result<Vec<String>> {
        let mut images = Vec::new();
        for build in self.builds().await?.iter().filter(|build| build.version != WORKSPACE_VERSION) {
            images.push(self.tagged(&build.version).await?);
        }
        Ok(images)
    }

    pub async fn remove_version(&self, version: &str) -> Result<()> {
        self.remove_image(&self.tagged(version).await?).await
    }

    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let removed = self.docker.remove_image(image, None::<RemoveImageOptions>, None).await;
        removed.map(drop).map_err(|error| failed(&format!("remove the image {image}"), &error))
    }
}

fn build_of(version: String, built: Option<DateTime<Utc>>, labels: &HashMap<String, String>) -> Build {
    let env: Option<BTreeMap<String, String>> = labels.get(ENV_LABEL).and_then(|json| serde_json::from_str(json).ok());
    Build {
        version,
        commit: labels.get(REVISION_LABEL).cloned(),
        built: built.unwrap_or_default(),
        // Compose's images have release programs.
        release: labels.get(RELEASE_LABEL).is_none_or(|release| release == "true"),
        env: env.unwrap_or_default(),
    }
}

/// Returns `flack` for `flack:latest`.
fn repository(image: &str) -> &str {
    match image.rsplit_once(':') {
        // What follows may be the port of a registry and a path.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// Returns an archive with the program, as Docker unpacks it.
fn archive(program: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| -> Failure {
        failure!(Unavailable, "{} cannot be read: {error}. Build it: mfbuild", program.display())
    };
    let bytes = std::fs::read(program).map_err(unreadable)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PROGRAM, bytes.as_slice()).map_err(unreadable)?;
    archive.into_inner().map_err(unreadable)
}
