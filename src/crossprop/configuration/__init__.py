"""The sections of ``params.yaml`` as frozen models; :mod:`crossprop.config` reads them."""
