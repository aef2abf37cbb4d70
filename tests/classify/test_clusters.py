"""Clusters of backgrounds: planted ones are found, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from classify import clusters


def test_planted_clusters_are_found_by_falling_size() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2, 3], [50, 40, 30, 20])
    points = np.array([(0, 0), (4, 0), (0, 4), (4, 4)])[truth] + rng.normal(0, 0.3, (140, 2))
    shuffled = rng.permutation(140)
    found = clusters.cluster(points[shuffled])
    assert found.count == 4
    assert (found.of == truth[shuffled]).all()


def test_one_cloud_and_few_photos_are_no_clusters() -> None:
    cloud = clusters.cluster(np.random.default_rng(1).normal(size=(300, 8)))
    assert cloud.count == 1
    assert not cloud.of.any()
    for few in (0, 1, 2):
        assert clusters.cluster(np.zeros((few, 3))).count == 1
    assert clusters.cluster(np.ones((20, 3))).count == 1


def test_the_silhouette_is_the_reference_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    points, of = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    of[0] = 7  # alone in its cluster
    assert clusters.silhouette(points, of) == pytest.approx(metrics.silhouette_score(points, of))


def test_k_means_is_as_good_as_the_reference_s() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.random.default_rng(3).random((200, 2))
    of = clusters.kmeans(points, 5)
    cost = sum(((points[of == i] - points[of == i].mean(0)) ** 2).sum() for i in range(5))
    assert cost <= 1.03 * cluster.KMeans(5, n_init=10, random_state=0).fit(points).inertia_


def test_the_figure_leaves_no_trace_in_the_ground_s_features() -> None:
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 256, (2, 48, 48, 3), np.uint8)
    alpha = np.zeros((2, 48, 48), np.uint8)
    alpha[:, 12:36, 12:36] = 255
    rgb[1] = np.where(alpha[1, ..., None] == 255, 255 - rgb[0], rgb[0])
    first, second = clusters.features(rgb, alpha)
    np.testing.assert_allclose(first, second, atol=1e-6)
