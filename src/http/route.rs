//! One row of the route table: path, door, what it leaves in the ledger, handler, and how it is described.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::App;
use super::callers::Access;
use crate::domain::event::EventKind;

/// A schema with everything it refers to.
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) schema: RefOr<Schema>,
    pub(super) others: Vec<(String, RefOr<Schema>)>,
}

impl Shape {
    fn of<T: ToSchema>() -> Self {
        let mut others = Vec::new();
        T::schemas(&mut others);
        Self { name: T::name().into_owned(), schema: T::schema(), others }
    }
}

/// A body and how it is written.
pub(super) struct Takes {
    pub(super) media: &'static str,
    pub(super) shape: Shape,
}

/// One row.
pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// Kinds of event, one of which a success leaves; empty only where nothing changes.
    pub(super) leaves: &'static [EventKind],
    pub(super) summary: &'static str,
    pub(super) query: &'static [(&'static str, &'static str)],
    pub(super) takes: Option<Takes>,
    pub(super) gives: Option<Shape>,
    pub(super) status: u16,
    pub(super) handler: MethodRouter<Arc<App>>,
}

impl Row {
    /// A row that reads.
    pub(super) fn get<T: 'static>(
        path: &'static str,
        access: Access,
        handler: impl Handler<T, Arc<App>>,
        summary: &'static str,
    ) -> Self {
        Self::new("get", path, access, &[], get(handler), summary)
    }

    /// A row that changes something, and says which events tell of it.
    pub(super) fn post<T: 'static>(
        path: &'static str,
        access: Access,
        leaves: &'static [EventKind],
        handler: impl Handler<T, Arc<App>>,
        summary: &'static str,
    ) -> Self {
        Self::new("post", path, access, leaves, post(handler), summary)
    }

    fn new(
        method: &'static str,
        path: &'static str,
        access: Access,
        leaves: &'static [EventKind],
        handler: MethodRouter<Arc<App>>,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            access,
            leaves,
            summary,
            query: &[],
            takes: None,
            gives: None,
            status: 200,
            handler,
        }
    }

    /// Members of its query, each with its meaning.
    pub(super) fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    /// Takes a JSON body.
    pub(super) fn takes<T: ToSchema>(self) -> Self {
        self.takes_shape("application/json", Shape::of::<T>())
    }

    /// Takes a form.
    pub(super) fn form<T: ToSchema>(self) -> Self {
        self.takes_shape("application/x-www-form-urlencoded", Shape::of::<T>())
    }

    /// Takes a body of another media type.
    pub(super) fn takes_media<T: ToSchema>(self, media: &'static str) -> Self {
        self.takes_shape(media, Shape::of::<T>())
    }

    /// Answers so.
    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Takes a JSON body whose type knows no OpenAPI.
    pub(super) fn takes_schema(self, name: &str, schema: Schema) -> Self {
        let shape = Shape { name: name.to_owned(), schema: RefOr::T(schema), others: Vec::new() };
        self.takes_shape("application/json", shape)
    }

    fn takes_shape(mut self, media: &'static str, shape: Shape) -> Self {
        self.takes = Some(Takes { media, shape });
        self
    }

    /// Gives a JSON reply.
    pub(super) fn gives<T: ToSchema>(mut self) -> Self {
        self.gives = Some(Shape::of::<T>());
        self
    }

    /// Answers 201.
    pub(super) fn creates<T: ToSchema>(mut self) -> Self {
        self.status = 201;
        self.gives::<T>()
    }
}
