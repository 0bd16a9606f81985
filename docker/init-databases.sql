-- PostgreSQL's image runs this once, on an empty volume. It makes the database of MLflow itself (POSTGRES_DB).
CREATE DATABASE optuna;
