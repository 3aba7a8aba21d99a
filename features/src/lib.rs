//! Feature rows of entities.
