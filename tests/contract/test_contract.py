"""Every model keeps every promise of ``lc.testing``."""

import latentcell as lc


def test_contract(case, check):
    check(case)


def test_every_model_of_the_package_is_held_to_it(make):
    models = {getattr(lc.model, name) for name in lc.model.__all__}
    assert {case.model for case in make.CASES} == {
        model for model in models if hasattr(model, "setup_anndata")
    }


def test_what_a_model_can_be_told_of_is_found_by_trying(make):
    for case in make.CASES:
        tried = lc.testing.Case(case.model, setup=case.setup, arguments=case.arguments)
        assert tried.can("any data") == (not case.counts_only)
