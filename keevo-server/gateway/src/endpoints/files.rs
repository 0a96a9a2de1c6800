//! Files and images: upload, fresh addresses, other sizes, deletion.

use std::io::Cursor;

use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use image::{DynamicImage, ImageFormat, ImageReader, imageops::FilterType};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::auth::{Principal, rights};
use crate::call::Call;
use crate::error::{ApiError, ApiResult};
use crate::files::{Address, FileRow, Files, clean};
use crate::reply::Reply;
use crate::route::Op;

/// The largest width or height of an image in another size.
const SIDE_MAX: usize = 4_096;
/// The most pixels of an image that is to be resized.
const PIXELS_MAX: u64 = 50_000_000;
/// The most pixels on the way there, of 16 bytes each: an image is brought to its new height first, as wide as it was.
const WAY_PIXELS_MAX: u64 = 32_000_000;
/// Images that are resized at once.
static RESIZES: Semaphore = Semaphore::const_new(2);
/// Content types that a browser would run.
const RUNNABLE: &[&str] = &["html", "svg", "javascript", "ecmascript", "xml", "x-msdownload", "x-sh"];

fn store(call: &Call) -> ApiResult<&Files> {
    let files = call.gateway.files.as_ref();
    files.ok_or_else(|| ApiError::not_allowed("this node keeps no files: its setting files_dir is empty"))
}

fn base(call: &Call) -> &str {
    call.gateway.options.files_url.as_deref().unwrap_or(&call.origin).trim_end_matches('/')
}

fn fresh(call: &Call, address: &Address) -> Reply {
    let expires_s = call.now_ms() / 1_000 + call.gateway.options.files_ttl_s;
    Reply::ok(json!({ "file": address.sign(&call.app, base(call), expires_s) }))
}

/// Takes the part `file` of a form.
pub(crate) async fn upload(call: &Call, request: Request) -> ApiResult<Reply> {
    let files = store(call)?;
    rights::policy(&call.principal, call.app.policies.files_write, "upload files")?;
    let bytes_max = call.gateway.options.file_bytes_max;
    let malformed = || ApiError::input("the body is a multipart/form-data form with a part 'file'");
    let mut form = Multipart::from_request(request, &()).await.map_err(|_why| malformed())?;
    let mut part = loop {
        let part = form.next_field().await.map_err(|_why| malformed())?;
        match part {
            Some(part) if part.name() == Some("file") => break part,
            Some(_) => {}
            None => return Err(ApiError::field("file", "the form has no part of that name")),
        }
    };
    let name = clean(part.file_name().unwrap_or_default());
    let declared = part.content_type().unwrap_or("application/octet-stream").to_lowercase();
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(|_why| ApiError::input("the body was cut off"))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(ApiError::too_large(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.is_empty() {
        return Err(ApiError::field("file", "is empty"));
    }
    let kind = kind_of(call.found.row.op, &declared, &bytes)?;
    let owner = match &call.principal {
        Principal::User(user) => Some(user.clone()),
        Principal::Server(_) => None,
    };
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let row = FileRow { name: name.clone(), kind, bytes: size, owner, created_ms: call.now_ms() };
    let id = uuid::Builder::from_random_bytes(call.gateway.options.random.next_u128().to_be_bytes()).into_uuid();
    let address = Address { app: call.app.id, id, rest: name };
    files.put(call.gateway.registry.engine(), &address, &row, Bytes::from(bytes)).await?;
    let Reply::Json(_, body) = fresh(call, &address) else { return Err(ApiError::internal()) };
    Ok(Reply::created(body.into()))
}

/// The content type that a file is kept under: for an image what its bytes say, else what the client says.
fn kind_of(op: Op, declared: &str, bytes: &[u8]) -> ApiResult<String> {
    let sniffed = match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    };
    match (op, sniffed) {
        (_, Some(kind)) => Ok(kind.to_owned()),
        (Op::ImageUpload, None) => Err(ApiError::field("file", "is no PNG, JPEG, GIF or WebP image")),
        (_, None) if declared.starts_with("image/") => Ok("application/octet-stream".to_owned()),
        (_, None) if RUNNABLE.iter().any(|one| declared.contains(one)) => {
            Err(ApiError::field("file", format!("files of the type {declared} are not kept")))
        }
        (_, None) if declared.len() <= 100 && declared.bytes().all(|byte| (b' '..0x7f).contains(&byte)) => {
            Ok(declared.to_owned())
        }
        (_, None) => Ok("application/octet-stream".to_owned()),
    }
}

/// The file that `url` names, if it is there and, for deletion, the caller's.
async fn named(call: &Call, to_change: bool) -> ApiResult<(Address, FileRow)> {
    let url = call.query.get("url").ok_or_else(|| ApiError::field("url", "is missing"))?;
    let gone = || ApiError::not_found("there is no such file");
    let address = Address::in_url(url).filter(|address| address.app == call.app.id).ok_or_else(gone)?;
    let row = Files::row(call.gateway.registry.engine(), address.app, address.id).await?.ok_or_else(gone)?;
    if let (Principal::User(user), true) = (&call.principal, to_change)
        && row.owner.as_ref() != Some(user)
    {
        return Err(ApiError::not_allowed("the file belongs to somebody else"));
    }
    let rest = row.name.clone();
    Ok((Address { rest, ..address }, row))
}

/// A fresh address of a file, or of an image in another size.
pub(crate) async fn get(call: &Call) -> ApiResult<Reply> {
    let files = store(call)?;
    let (address, row) = named(call, false).await?;
    let resizable = call.found.row.op == Op::ImageGet && row.kind.starts_with("image/");
    let side = |name| call.query.number(name, 0, SIDE_MAX).map(|side| u32::try_from(side).unwrap_or(0));
    let (width, height) = (side("w")?, side("h")?);
    if !resizable || (width == 0 && height == 0) {
        return Ok(fresh(call, &address));
    }
    let mode = call.query.get("resize").unwrap_or("clip").to_owned();
    let crop = call.query.get("crop").unwrap_or("center").to_owned();
    if !matches!(mode.as_str(), "clip" | "crop" | "fill" | "scale") {
        return Err(ApiError::field("resize", "is clip, crop, fill or scale"));
    }
    if !crop.split(',').all(|one| matches!(one, "center" | "top" | "bottom" | "left" | "right")) {
        return Err(ApiError::field("crop", "is center, top, bottom, left or right"));
    }
    let size = clean(&format!("{width}x{height}-{mode}-{crop}"));
    let resized = Address { rest: format!("{size}/{}", row.name), ..address.clone() };
    if files.bytes(&resized).await?.is_none() {
        let original = files.bytes(&address).await?.ok_or_else(|| ApiError::not_found("the file is gone"))?;
        // It is never closed. The permit goes with the work, which goes on when whoever asked is gone.
        let turn = RESIZES.acquire().await.ok();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            resize(&original, width, height, &mode, &crop)
        });
        let bytes = work.await.map_err(|_panic| ApiError::input("the image cannot be resized"))??;
        files.put_bytes(&resized, bytes).await?;
    }
    Ok(fresh(call, &resized))
}

/// Deletes a file in all its sizes.
pub(crate) async fn delete(call: &Call) -> ApiResult<Reply> {
    let files = store(call)?;
    let (address, _) = named(call, true).await?;
    files.delete(call.gateway.registry.engine(), &address).await?;
    Ok(Reply::empty())
}

/// An image in another size and the same format. A side of 0 follows from the other.
fn resize(bytes: &[u8], width: u32, height: u32, mode: &str, crop: &str) -> ApiResult<Bytes> {
    let unreadable = || ApiError::input("the image cannot be read");
    let reader = || ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_why| unreadable());
    let format = reader()?.format().ok_or_else(unreadable)?;
    let (from_width, from_height) = reader()?.into_dimensions().map_err(|_why| unreadable())?;
    let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
    if pixels(from_width, from_height) > PIXELS_MAX {
        return Err(ApiError::input(format!("the image has more than {PIXELS_MAX} pixels")));
    }
    let other = |side: u32, of: u32, by: u32| {
        let scaled = u64::from(side) * u64::from(of) / u64::from(by.max(1));
        u32::try_from(scaled).unwrap_or(u32::MAX).clamp(1, 4_096)
    };
    let width = if width == 0 { other(height, from_width, from_height) } else { width };
    let height = if height == 0 { other(width, from_height, from_width) } else { height };
    let (cut_width, cut_height) = cut(from_width, from_height, width, height);
    let way_pixels = match mode {
        "scale" => pixels(from_width, height),
        "crop" | "fill" => pixels(cut_width, height),
        _ => pixels(from_width, height.min(other(width, from_height, from_width))),
    };
    if way_pixels > WAY_PIXELS_MAX {
        return Err(ApiError::input(format!("the image is too wide to be made {height} high: ask for a smaller one")));
    }
    let image = reader()?.decode().map_err(|_why| unreadable())?;
    let resized = match mode {
        "scale" => image.resize_exact(width, height, FilterType::Triangle),
        "crop" | "fill" => {
            let at = |first: &str, last: &str, spare: u32| match () {
                () if crop.split(',').any(|one| one == first) => 0,
                () if crop.split(',').any(|one| one == last) => spare,
                () => spare / 2,
            };
            let x = at("left", "right", image.width().saturating_sub(cut_width));
            let y = at("top", "bottom", image.height().saturating_sub(cut_height));
            // Cut before it is scaled: of a long strip little is left then, and scaled it may be without end.
            image.crop_imm(x, y, cut_width, cut_height).resize_exact(width, height, FilterType::Triangle)
        }
        _ => image.resize(width, height, FilterType::Triangle),
    };
    let mut out = Cursor::new(Vec::new());
    // JPEG has no transparency.
    let resized = if format == ImageFormat::Jpeg { DynamicImage::from(resized.to_rgb8()) } else { resized };
    resized.write_to(&mut out, format).map_err(|_why| unreadable())?;
    Ok(out.into_inner().into())
}

/// What of an image of a width and height fills another size, with nothing left over on one side.
fn cut(from_width: u32, from_height: u32, width: u32, height: u32) -> (u32, u32) {
    let scale = |from: u32, to: u32| f64::from(to) / f64::from(from.max(1));
    let by = scale(from_width, width).max(scale(from_height, height));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of an image, bounded before")]
    let side = |to: u32, most: u32| ((f64::from(to) / by).round() as u32).clamp(1, most.max(1));
    (side(width, from_width), side(height, from_height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height).write_to(&mut out, ImageFormat::Png).expect("an image");
        out.into_inner()
    }

    #[test]
    fn images_in_other_sizes() {
        let size = |width, height, mode, crop| {
            let bytes = resize(&png(40, 20), width, height, mode, crop).expect("resized");
            let image = image::load_from_memory(&bytes).expect("an image");
            (image.width(), image.height())
        };
        assert_eq!(size(10, 10, "clip", "center"), (10, 5));
        assert_eq!(size(10, 10, "scale", "center"), (10, 10));
        assert_eq!(size(10, 10, "crop", "left,top"), (10, 10));
        assert_eq!(size(10, 0, "clip", "center"), (10, 5));
        assert_eq!(size(0, 10, "fill", "right"), (20, 10));
        assert!(resize(b"no image", 10, 10, "clip", "center").is_err());
        assert!(resize(&png(2, 2)[..20], 10, 10, "clip", "center").is_err());
    }

    /// Once a strip of a few kilobytes took terabytes on its way to another size, and the node with it.
    #[test]
    fn an_image_takes_so_much_memory_and_no_more() {
        let strip = resize(&png(1, 40_000), 512, 512, "fill", "center").expect("one pixel of it, enlarged");
        let strip = image::load_from_memory(&strip).expect("an image");
        assert_eq!((strip.width(), strip.height()), (512, 512));
        let why = |bytes: &[u8], mode| resize(bytes, 10, 4_096, mode, "center").expect_err("too large").detail;
        assert!(why(&png(40_000, 1), "scale").contains("too wide"));
        resize(&png(40_000, 1), 10, 4_096, "clip", "center").expect("it stays low");
        // A picture of 10,000 times 10,000 pixels in 40 bytes.
        let gif =
            b"GIF89a\x10\x27\x10\x27\x00\x00\x00\x2c\0\0\0\0\x10\x27\x10\x27\x80\0\0\0\0\0\0\x02\x02\x4c\x01\x00\x3b";
        assert!(why(gif, "clip").contains("more than 50000000 pixels"), "{}", why(gif, "clip"));
        assert_eq!(cut(400, 200, 10, 10), (200, 200));
        assert_eq!(cut(200, 400, 20, 10), (200, 100));
    }

    #[test]
    fn types_are_told_by_the_bytes() {
        assert_eq!(kind_of(Op::ImageUpload, "text/plain", &png(1, 1)).expect("an image"), "image/png");
        assert!(kind_of(Op::ImageUpload, "image/png", b"<svg/>").is_err());
        assert_eq!(kind_of(Op::FileUpload, "image/png", b"<svg/>").expect("kept"), "application/octet-stream");
        assert!(kind_of(Op::FileUpload, "text/html; charset=utf-8", b"<html>").is_err());
        assert_eq!(kind_of(Op::FileUpload, "text/plain", b"hi").expect("kept"), "text/plain");
    }
}
