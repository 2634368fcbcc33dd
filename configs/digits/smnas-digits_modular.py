# SM-NAS on Digits, stage 2: searches the modules of stage 1's front, with the same training.
#   python tools/search.py configs/digits/smnas-digits_modular.py
# Both fronts and the joint one:
#   python tools/analysis_tools/fronts.py work_dirs/smnas-digits_structural work_dirs/smnas-digits_modular \
#       --draw fronts.png --unit ms --pruning
_base_ = './smnas-digits_structural.py'
search = dict(
    space=dict(
        _delete_=True,
        type='ModularSpace',
        seeds=dict(file='work_dirs/smnas-digits_structural/best.json'),
        base=(8, 12, 16, 20, 24),
        neck=(24, 36, 48),
        depth=(5, 17),
    ),
    # Members of stage 1's front, trained again, and mutations of them.
    strategy=dict(_delete_=True, type='ModularStrategy', population=4),
    budget=dict(generations=3),
)
